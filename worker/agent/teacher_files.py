"""The model that teaches a trial: brought here once and kept for the trials after it."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.teachers import Artifact, StudyTeacher, Teacher
from worker import atomic_files
from worker.agent.backoff import Backoff

log = logging.getLogger(__name__)

_NAME = "model.safetensors"


class TeacherUnavailable(Exception):
    """The teacher cannot be had on this worker."""


class ServiceCalls(Protocol):
    """What fetching a teacher needs of the client."""

    def download(self, sha256: str, path: Path, /) -> Path:
        """Fetch a file's bytes; other bytes are refused."""
        ...


def fetch(
    teacher: Teacher | None, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> Path | None:
    """Return where the teacher lies; None where there is none, or `rest` says that waiting is over.

    Args:
        teacher: of the lease.
        folder: for all teachers on this machine.
        client: the service.
        rest: waits so many seconds for an unreachable service; false to give up.

    Raises:
        TeacherUnavailable: the service has it no more, or the disk does not take it.
    """
    if teacher is None:
        return None
    if not isinstance(teacher, StudyTeacher):
        return Path(teacher.path).expanduser()
    if teacher.model is None:
        raise TeacherUnavailable(f"Nobody said which model of {teacher.name!r} teaches.")
    return _bring(teacher.model, folder / teacher.model.sha256 / _NAME, client, rest)


def _bring(
    model: Artifact, path: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> Path | None:
    backoff = Backoff()
    try:
        while not _is_whole(path, model):
            try:
                client.download(model.sha256, path)
            except problems.Unavailable:
                if not rest(backoff.next()):
                    return None
        # What nobody has used for long is swept away.
        os.utime(path)
    except (problems.Problem, OSError) as error:
        raise TeacherUnavailable(
            f"The teacher's model {model.sha256} cannot be fetched: {error}"
        ) from error
    return path


def _is_whole(path: Path, model: Artifact) -> bool:
    return path.is_file() and atomic_files.sha256_of(path) == model.sha256
