"""The model that teaches: brought here once, checked each time, waited for while the service is away."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trimtab.contract import problems
from trimtab.contract.teachers import Artifact, FileTeacher, StudyTeacher
from worker import teachers
from worker.teachers import TeacherUnavailable

MODEL = b"a model"
SHA256 = hashlib.sha256(MODEL).hexdigest()
TEACHER = StudyTeacher(
    kind="study", name="large", model=Artifact(sha256=SHA256, bytes=len(MODEL))
)


@dataclass
class Service:
    """Has the model, once it is there."""

    artifacts: dict[str, bytes] = field(default_factory=lambda: {SHA256: MODEL})
    absent_for: int = 0
    downloads: int = 0

    def download(self, sha256: str, path: Path) -> Path:
        if self.absent_for:
            self.absent_for -= 1
            raise problems.Unreachable
        if sha256 not in self.artifacts:
            raise problems.ArtifactNotFound
        self.downloads += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.artifacts[sha256])
        return path


def test_a_model_is_downloaded_once_for_all_trials(tmp_path: Path) -> None:
    service = Service()
    for _ in range(2):
        path = teachers.fetch(TEACHER, tmp_path, service, lambda _: True)
        assert path is not None
        assert path.read_bytes() == MODEL
    assert service.downloads == 1


def test_a_copy_that_has_changed_is_downloaded_again(tmp_path: Path) -> None:
    service = Service()
    path = teachers.fetch(TEACHER, tmp_path, service, lambda _: True)
    assert path is not None
    path.write_bytes(b"a madel")
    assert teachers.fetch(TEACHER, tmp_path, service, lambda _: True) == path
    assert path.read_bytes() == MODEL


def test_a_service_that_is_away_is_waited_for_until_told_otherwise(tmp_path: Path) -> None:
    assert teachers.fetch(TEACHER, tmp_path, Service(absent_for=3), lambda _: True)
    away = Service(absent_for=99)
    assert teachers.fetch(TEACHER, tmp_path / "x", away, lambda _: False) is None


def test_a_model_that_the_service_has_no_more_is_told(tmp_path: Path) -> None:
    with pytest.raises(TeacherUnavailable, match=SHA256):
        teachers.fetch(TEACHER, tmp_path, Service(artifacts={}), lambda _: True)


def test_a_model_in_a_file_is_where_the_study_says(tmp_path: Path) -> None:
    for written, meant in [("/m/a.safetensors", Path("/m")), ("~/a.safetensors", Path.home())]:
        teacher = FileTeacher(kind="file", path=written)
        path = teachers.fetch(teacher, tmp_path, Service(), lambda _: True)
        assert path == meant / "a.safetensors"


def test_without_a_teacher_nothing_is_fetched(tmp_path: Path) -> None:
    assert teachers.fetch(None, tmp_path, Service(artifacts={}), lambda _: True) is None
