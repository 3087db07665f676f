"""The model that teaches: brought here once, checked each time, waited for while the service is away."""

import hashlib
from pathlib import Path

import pytest

from tests.support.artifacts import Artifacts
from trimtab.contract.teachers import Artifact, FileTeacher, StudyTeacher
from worker.agent import teacher_files
from worker.agent.teacher_files import TeacherUnavailable

MODEL = b"a model"
SHA256 = hashlib.sha256(MODEL).hexdigest()
TEACHER = StudyTeacher(
    kind="study", name="large", model=Artifact(sha256=SHA256, bytes=len(MODEL))
)


def having_it(absent_for: int = 0) -> Artifacts:
    return Artifacts({SHA256: MODEL}, absent_for)


def test_a_model_is_downloaded_once_for_all_trials(tmp_path: Path) -> None:
    service = having_it()
    for _ in range(2):
        path = teacher_files.fetch(TEACHER, tmp_path, service, lambda _: True)
        assert path is not None
        assert path.read_bytes() == MODEL
    assert service.downloads == 1


def test_a_copy_that_has_changed_is_downloaded_again(tmp_path: Path) -> None:
    service = having_it()
    path = teacher_files.fetch(TEACHER, tmp_path, service, lambda _: True)
    assert path is not None
    path.write_bytes(b"a madel")
    assert teacher_files.fetch(TEACHER, tmp_path, service, lambda _: True) == path
    assert path.read_bytes() == MODEL


def test_a_service_that_is_away_is_waited_for_until_told_otherwise(tmp_path: Path) -> None:
    assert teacher_files.fetch(TEACHER, tmp_path, having_it(absent_for=3), lambda _: True)
    away = having_it(absent_for=99)
    assert teacher_files.fetch(TEACHER, tmp_path / "x", away, lambda _: False) is None


def test_a_model_that_the_service_has_no_more_is_told(tmp_path: Path) -> None:
    with pytest.raises(TeacherUnavailable, match=SHA256):
        teacher_files.fetch(TEACHER, tmp_path, Artifacts(), lambda _: True)


def test_a_model_in_a_file_is_where_the_study_says(tmp_path: Path) -> None:
    for written, meant in [("/m/a.safetensors", Path("/m")), ("~/a.safetensors", Path.home())]:
        teacher = FileTeacher(kind="file", path=written)
        path = teacher_files.fetch(teacher, tmp_path, having_it(), lambda _: True)
        assert path == meant / "a.safetensors"


def test_without_a_teacher_nothing_is_fetched(tmp_path: Path) -> None:
    assert teacher_files.fetch(None, tmp_path, Artifacts(), lambda _: True) is None
