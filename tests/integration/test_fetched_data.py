"""A real worker trains, on the real service, on data that it fetches from a real web server."""

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Running
from tests.support.data_server import DataServer, files_of, serving, tar_of
from tests.support.pictures import folder_task, picture, write_classes
from tests.support.until import until
from tests.support.workers import a_worker
from trimtab.cli import app
from trimtab.client import Client
from trimtab.contract.data_addresses import place_of
from trimtab.contract.tasks import Task

STUDY: Mapping[str, Any] = {
    "model": {"backbone": "glyphnet", "weights": "none"},
    "fixed": {"epochs": 2, "batch_size": 8},
    "space": {"learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}},
    "budget": {"trials": 2},
}


def a_task(address: str) -> dict[str, Any]:
    """The task of the pictures at an address."""
    task = folder_task(Path("/")).model_dump(mode="json")
    task["dataset"]["path"] = address
    return task


@pytest.fixture
def web() -> Generator[DataServer]:
    with serving() as web:
        yield web


def test_a_study_of_an_archive_on_the_web(
    service: Running, client: Client, web: DataServer, tmp_path: Path
) -> None:
    pets = tmp_path / "pets"
    write_classes(pets, {"cat": 20, "dog": 20})
    web.files["/pets.tar.gz"] = tar_of(files_of(pets))
    name = service.create(task=a_task(f"{web.url}/pets.tar.gz?signature=secret"), **STUDY)
    # What the agent has fetched may be read, whatever the roots.
    env = {"TRIMTAB_WORKER_ADDRESSES": web.url, "TRIMTAB_WORKER_ROOTS": str(tmp_path / "none")}
    cache = tmp_path / "cache"
    with a_worker(service.url, cache, runner="worker.runner", env=env):
        until(lambda: client.study(name).state == "done")
    study = client.study(name)
    assert study.final is not None
    assert study.data is not None
    fetched = study.data.fetched
    assert fetched is not None
    assert fetched.address == f"{web.url}/pets.tar.gz"
    assert (cache / "fetched" / fetched.sha256 / "pets" / "cat").is_dir()
    assert web.asked == [(200, len(web.files["/pets.tar.gz"]))]


def test_a_study_of_a_folder_that_was_uploaded(
    service: Running, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = tmp_path / "Pets 1"
    write_classes(pets, {"cat": 20, "dog": 20})
    assert app.run(["--server", service.url, "data", "upload", str(pets)]) == 0
    assert capsys.readouterr().out.startswith("trimtab://pets-1  ")
    first = client.datasets().datasets[0].sha256
    name = service.create(task=a_task("trimtab://pets-1"), **STUDY)
    # Another folder gets the name: the study keeps what the name stood for.
    picture(99).save(pets / "cat" / "one-more.png")
    assert client.upload_dataset(pets, "pets-1").sha256 != first
    task = client.study(name).document.task
    assert isinstance(task, Task)
    assert place_of(task.dataset) == f"trimtab://{first}"
    client.forget_dataset("pets-1")
    assert client.datasets().datasets == ()
    with a_worker(service.url, tmp_path / "cache", runner="worker.runner"):
        until(lambda: client.study(name).state == "done")
    data = client.study(name).data
    assert data is not None
    assert data.fetched is not None
    assert (data.fetched.sha256, sum(data.pictures.values())) == (first, 40)


def test_an_archive_that_is_published_anew_is_told_as_data_that_have_changed(
    service: Running, client: Client, web: DataServer, tmp_path: Path
) -> None:
    pets, cache = tmp_path / "pets", tmp_path / "cache"
    write_classes(pets, {"cat": 20, "dog": 20})
    web.files["/pets.tar.gz"] = tar_of(files_of(pets))
    name = service.create(task=a_task(f"{web.url}/pets.tar.gz"), **STUDY)
    env = {"TRIMTAB_WORKER_ADDRESSES": web.url}
    with a_worker(service.url, cache, runner="worker.runner", env=env):
        until(lambda: client.study(name).data is not None)
        client.pause(name)
    picture(99).save(pets / "cat" / "one-more.png")
    web.files["/pets.tar.gz"] = tar_of(files_of(pets))
    client.resume(name)
    with a_worker(service.url, cache, runner="worker.runner", env=env):
        until(lambda: client.study(name).set_aside != ())
    told = client.study(name).set_aside[0].problem
    assert "not the data that the study began with" in told
    assert f"{web.url}/pets.tar.gz has {len(web.files['/pets.tar.gz'])} bytes" in told
