"""Fetches the model of a trial's teacher once, and keeps the file for later trials."""

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
    """The teacher's model cannot be fetched to this worker."""


class ServiceCalls(Protocol):
    """What fetching a teacher needs of the client."""

    def download(self, sha256: str, path: Path, /) -> Path:
        """Fetch a file and check that its bytes have this sha256."""
        ...


def fetch(
    teacher: Teacher | None, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> Path | None:
    """Return the path of the teacher's model; None if there is no teacher, or `rest` gives up.

    Args:
        teacher: the teacher that the lease names.
        folder: the folder for the models of all teachers on this machine.
        client: the client of the service.
        rest: is called with the seconds to wait for an unreachable service; returns false to give up.

    Raises:
        TeacherUnavailable: the service no longer has the model, or it cannot be written to disk.
    """
    if teacher is None:
        return None
    if not isinstance(teacher, StudyTeacher):
        return Path(teacher.path).expanduser()
    if teacher.model is None:
        raise TeacherUnavailable(
            f"The lease does not say which model of the study {teacher.name!r} is the teacher."
        )
    return _fetch_model(teacher.model, folder / teacher.model.sha256 / _NAME, client, rest)


def _fetch_model(
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
        # The sweep removes files by the time of their last use.
        os.utime(path)
    except (problems.Problem, OSError) as error:
        raise TeacherUnavailable(
            f"The teacher's model {model.sha256} cannot be fetched to this worker: {error}"
        ) from error
    return path


def _is_whole(path: Path, model: Artifact) -> bool:
    return path.is_file() and atomic_files.sha256_of(path) == model.sha256
