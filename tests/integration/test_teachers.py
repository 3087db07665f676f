"""Studies that learn from the models of earlier ones."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Running
from tests.support.until import until
from tests.support.workers import a_worker
from trimtab.client import Client

REAL = "worker.runner"
GOOD = {"learning_rate": {"kind": "float", "low": 0.005, "high": 0.02}}


def done(service: Running, client: Client, cache: Path, runner: str, **changes: Any) -> str:
    """Run a study to its end, by a worker of its own."""
    study = service.create(budget={"trials": 1}, **changes)
    with a_worker(service.url, cache, runner=runner):
        until(lambda: client.study(study).state == "done", within_s=240)
    return study


def test_a_teacher_is_settled_when_the_study_is_created(
    service: Running, client: Client, tmp_path: Path
) -> None:
    first = done(service, client, tmp_path, "tests.support.scripted_runner")
    final = client.study(first).final
    assert final is not None
    student = service.create(teacher={"kind": "study", "name": first})
    settled = client.study(student).document.teacher
    assert settled is not None
    assert settled.kind == "study"
    assert settled.model is not None
    path = client.download_model(first, tmp_path / "model")
    assert (settled.model.sha256, settled.model.bytes) == (
        final.model_sha256,
        path.stat().st_size,
    )
    (lease,) = service.claim(service.register())
    assert lease["teacher"] == settled.model_dump()
    client.delete(first)
    (again,) = service.claim(service.register())
    assert again["teacher"] == lease["teacher"]


def test_a_model_that_is_insisted_on_is_that_or_none(
    service: Running, client: Client, tmp_path: Path
) -> None:
    first = done(service, client, tmp_path, "tests.support.scripted_runner")
    same = service.create(teacher={"kind": "study", "name": first})
    settled = client.study(same).document.teacher
    assert settled is not None
    service.create(teacher=settled.model_dump())
    other = settled.model_dump() | {"model": {"sha256": "0" * 64, "bytes": 3}}
    answer = refused(service, other)
    assert answer["status"] == 409
    assert "insists on" in answer["detail"]


def refused(service: Running, teacher: dict[str, Any]) -> dict[str, Any]:
    document = {
        "name": "student",
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet"},
        "space": {"learning_rate": {"kind": "float", "low": 0.1, "high": 0.2}},
        "budget": {"trials": 1},
        "teacher": teacher,
    }
    answer = service.call("POST", "/v1/studies", document)
    assert service.call("GET", "/v1/studies/student").status_code == 404
    return answer.json()


def test_a_study_that_has_no_model_cannot_teach(service: Running) -> None:
    missing = refused(service, {"kind": "study", "name": "nobody"})
    assert (missing["status"], missing["type"]) == (404, "/problems/study-not-found")
    assert "'nobody' that could be the teacher" in missing["detail"]
    running = service.create()
    early = refused(service, {"kind": "study", "name": running})
    assert (early["status"], early["type"]) == (409, "/problems/teacher-not-ready")
    assert "it is active" in early["detail"]


@pytest.mark.slow
def test_a_study_learns_from_the_model_of_another(
    service: Running, client: Client, tmp_path: Path
) -> None:
    teacher = done(service, client, tmp_path, REAL, space=GOOD, fixed={"epochs": 4})
    student = done(
        service,
        client,
        tmp_path,
        REAL,
        model={"backbone": "glyphnet", "weights": "none"},
        teacher={"kind": "study", "name": teacher},
        space=GOOD,
        fixed={"epochs": 2, "distillation_weight": 1.0},
    )
    (trial,) = client.trials(student).trials
    assert trial.state == "completed", trial.error_message
    final = client.study(student).final
    assert final is not None
    assert final.test_accuracy is not None
    assert final.test_accuracy > 0.3
    assert (tmp_path / "teachers").is_dir()
