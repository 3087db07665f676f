"""A real worker that trains, on the real service: from a mistyped path, over data that change, to a model."""

from pathlib import Path

import pytest

from tests.support.app import Running
from tests.support.pictures import folder_task, picture, write_classes
from tests.support.until import until
from tests.support.workers import a_worker
from trimtab.cli import app
from trimtab.client import Client


def watch(service: Running, name: str) -> int:
    return app.run(["--server", service.url, "study", "show", name, "--watch"])


def test_from_a_path_that_is_not_there_over_data_that_change_to_a_model(
    service: Running, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = tmp_path / "pets"
    name = service.create(
        task=folder_task(pets).model_dump(mode="json"),
        model={"backbone": "glyphnet", "weights": "none"},
        fixed={"epochs": 40, "batch_size": 8},
        space={"learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        budget={"trials": 1},
    )
    with a_worker(service.url, tmp_path / "cache", runner="worker.runner"):
        assert watch(service, name) == 1
        said = capsys.readouterr().out
        assert f"study blocked: No worker can serve the study. Worker tester: {pets}: " in said
        assert client.trial(name, 0).crashes == 0

        write_classes(pets, {"cat": 20, "dog": 20})
        client.resume(name)
        until(lambda: len(client.trial(name, 0).curve) > 0)
        picture(99).save(pets / "cat" / "one-more.png")
        assert watch(service, name) == 1
        assert "not the data that the study began with" in capsys.readouterr().out
        study = client.study(name)
        assert (study.state, study.blocked, study.progress.completed) == ("finalising", True, 1)

        client.rebase(name)
        assert watch(service, name) == 0
    before, after = client.study(f"{name}.before-1"), client.study(name)
    assert before.data is not None
    assert after.data is not None
    assert sum(after.data.pictures.values()) == sum(before.data.pictures.values()) + 1
    assert (before.state, before.final) == ("cancelled", None)
    assert after.probe is not None
