"""Artifacts: bytes by their sha256."""

from itertools import islice
from pathlib import Path

from service.storage import artifacts, tidying
from service.use_cases.context import Context
from trimtab.contract.problems import ArtifactNotFound, Unavailable

TURNS_PER_LIFE = 4
"""So often is an artifact that nothing needs looked at in the time for which it is kept."""
BATCH = 200


def record(context: Context, sha256: str, size: int) -> None:
    """Note that the artifact's bytes have arrived.

    Raises:
        Unavailable: they were collected between their arrival and this note; send them again.
    """
    with context.database.statements() as connection:
        artifacts.record(connection, sha256, size)
    if not context.artifacts.path(sha256).is_file():
        raise Unavailable("Older bytes of this name were just removed.", retry_after_s=1.0)


def path(context: Context, sha256: str) -> Path:
    """The file of a recorded artifact.

    Raises:
        ArtifactNotFound: its bytes are not here.
    """
    file = context.artifacts.path(sha256)
    if not file.is_file():
        raise ArtifactNotFound
    return file


def collect(context: Context, kept_s: float) -> int:
    """Remove the artifacts that nothing needs and that nobody has named for `kept_s` seconds; returns how many.

    One replica at a time, a few times in `kept_s`.
    """
    with context.database.statements() as connection:
        if not tidying.take_turn_to_collect(connection, kept_s / TURNS_PER_LIFE):
            return 0
    context.artifacts.remove_unfinished(kept_s)
    _record_found(context)
    count = 0
    while (removed := _remove_some(context, kept_s)) > 0:
        count += removed
    return count


def _record_found(context: Context) -> None:
    files = context.artifacts.sizes()
    while batch := dict(islice(files, BATCH)):
        with context.database.statements() as connection:
            artifacts.record_found(connection, batch)


def _remove_some(context: Context, kept_s: float) -> int:
    with context.database.transaction() as connection:
        unneeded = artifacts.delete_unneeded(connection, kept_s, BATCH)
        for sha256 in unneeded:
            context.artifacts.remove(sha256)
    return len(unneeded)
