"""Checkpoints of a training loop: a file that the service keeps, and that another attempt goes on from."""

import hashlib
import logging
import tempfile
from pathlib import Path
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import Checkpoint
from trimtab.contract.problems import Invalid

log = logging.getLogger(__name__)


class Downloads(Protocol):
    """What is needed of the client."""

    def download(self, sha256: str, path: str | Path, /) -> Path:
        """Fetch a file and check that its bytes have this sha256."""
        ...


def described(path: Path, step: int) -> Checkpoint:
    """Return the name of a file by its content.

    Raises:
        Invalid: it is no file, or is empty.
    """
    if path.is_dir():
        raise Invalid(
            f"{path} is a folder, and a checkpoint is one file: `shutil.make_archive` makes one of it."
        )
    if not path.is_file():
        raise Invalid(
            f"There is no file {path}: save the state there first, then `trial.save` uploads it."
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    if size == 0:
        raise Invalid(f"{path} is empty.")
    return Checkpoint(step=step, sha256=sha256, bytes=size)


class Resumed:
    """The state that a trial goes on from: fetched when it is asked for, into a folder that goes with the trial."""

    def __init__(self, client: Downloads, lease: ExternalLease) -> None:
        self._client = client
        self._wanted = [one for one in (lease.resume, lease.previous) if one is not None]
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._found: tuple[Path | None, int] | None = None

    @property
    def path(self) -> Path | None:
        """The file; None where there is none, so that training begins anew."""
        return self._fetched()[0]

    @property
    def first_step(self) -> int:
        """The first step that is not in it."""
        return self._fetched()[1]

    def discard(self) -> None:
        """Remove the file."""
        if self._folder is not None:
            self._folder.cleanup()

    def _fetched(self) -> tuple[Path | None, int]:
        if self._found is None:
            self._found = self._fetch()
        return self._found

    def _fetch(self) -> tuple[Path | None, int]:
        for one in self._wanted:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="trimtab-")
            path = Path(self._folder.name) / f"step-{one.step}"
            try:
                return self._client.download(one.sha256, path), one.step + 1
            except (problems.ArtifactNotFound, problems.Sha256Mismatch) as problem:
                log.warning("the checkpoint of step %d cannot be had: %s", one.step, problem)
        return None, 0
