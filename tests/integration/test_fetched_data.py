"""A real worker trains, on the real service, on data that it fetches from a real web server."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.app import Running
from tests.support.data_server import DataServer, files_of, serving, tar_of
from tests.support.pictures import folder_task, write_classes
from tests.support.until import until
from tests.support.workers import a_worker
from trimtab.client import Client


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
    task = folder_task(pets).model_dump(mode="json")
    task["dataset"]["path"] = f"{web.url}/pets.tar.gz?signature=secret"
    name = service.create(
        task=task,
        model={"backbone": "glyphnet", "weights": "none"},
        fixed={"epochs": 2, "batch_size": 8},
        space={"learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        budget={"trials": 2},
    )
    cache, env = tmp_path / "cache", {"TRIMTAB_WORKER_ADDRESSES": web.url}
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
