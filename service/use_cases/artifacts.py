"""Artifacts: bytes by their sha256."""

from pathlib import Path

from service.storage import artifacts
from service.use_cases.context import Context
from trimtab.contract.problems import ArtifactNotFound


def record(context: Context, sha256: str, size: int) -> None:
    """Note that the artifact's bytes have arrived."""
    with context.database.statements() as connection:
        artifacts.record(connection, sha256, size)


def path(context: Context, sha256: str) -> Path:
    """The file of a recorded artifact.

    Raises:
        ArtifactNotFound: its bytes are not here.
    """
    file = context.artifacts.path(sha256)
    if not file.is_file():
        raise ArtifactNotFound
    return file
