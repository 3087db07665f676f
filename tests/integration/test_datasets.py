"""Data sets at the service: named, listed, kept as long as they are needed; and what a study may name."""

from pathlib import Path
from typing import Any

import pytest

from service.storage.engine import Database
from service.use_cases import artifacts, datasets, studies
from tests.support.protocol import Service
from trimtab.contract.problems import ArtifactNotFound, DatasetNotFound, Invalid
from trimtab.contract.uploads import DatasetUpload

KEPT_S = 900.0


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    return Service.on(database, tmp_path)


def name(service: Service, content: str, called: str = "pets") -> str:
    sha256 = service.upload(content)
    datasets.name(service.context, called, DatasetUpload(sha256=sha256))
    return sha256


def a_task(path: str, **dataset: Any) -> dict[str, Any]:
    return {
        "kind": "classification",
        "dataset": {"kind": "image_folder", "path": path} | dataset,
    }


def left(service: Service) -> set[str]:
    service.clock.advance(KEPT_S + 1)
    artifacts.collect(service.context, KEPT_S)
    return {file.read_text() for file in service.context.artifacts.root.glob("??/*")}


def test_a_name_stands_for_what_was_uploaded_last(service: Service) -> None:
    name(service, "old")
    new = name(service, "new")
    (one,) = datasets.listed(service.context).datasets
    assert (one.name, one.sha256, one.bytes) == ("pets", new, 3)
    assert left(service) == {"new"}


def test_nothing_is_named_that_was_not_uploaded(service: Service) -> None:
    with pytest.raises(ArtifactNotFound):
        datasets.name(service.context, "pets", DatasetUpload(sha256="0" * 64))


def test_a_name_that_is_not_there_cannot_be_deleted(service: Service) -> None:
    with pytest.raises(DatasetNotFound, match="dogs"):
        datasets.forget(service.context, "dogs")


@pytest.mark.parametrize("inside", ["", "#flowers/train"])
def test_what_a_study_may_train_on_is_kept_without_a_name_until_it_is_cancelled(
    service: Service, inside: str
) -> None:
    sha256 = name(service, "pets")
    study = service.study(task=a_task(f"trimtab://pets{inside}"))
    stored = studies.read(service.context, study).document.model_dump()
    assert stored["task"]["dataset"]["path"] == f"trimtab://{sha256}{inside}"
    datasets.forget(service.context, "pets")
    assert left(service) == {"pets"}
    studies.cancel(service.context, study)
    assert left(service) == set()


@pytest.mark.parametrize(
    ("path", "error"),
    [(f"trimtab://{'0' * 64}", ArtifactNotFound), ("trimtab://dogs", DatasetNotFound)],
)
def test_a_study_of_what_was_not_uploaded_is_refused(
    service: Service, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        service.study(task=a_task(path))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("ftp://host/data.tar", "not from ftp://"),
        ("https://user:secret@host/data.tar", "no name or password"),
        ("https:///data.tar", "names no host"),
        ("s3:///data.tar", "names no bucket"),
        ("https://host:port/data.tar", "look at its host and port"),
        ("https://host/data.tar#../etc", "stays inside"),
        ("https://host/data.tar#/etc", "stays inside"),
        (f"trimtab://{'a' * 65}", "is named trimtab://NAME"),
    ],
)
def test_an_address_that_none_fetches_from_is_refused_at_its_place(
    service: Service, path: str, says: str
) -> None:
    with pytest.raises(Invalid) as caught:
        service.study(task=a_task(path))
    (fault,) = caught.value.errors
    assert fault.pointer == "/task/dataset/path"
    assert says in fault.message
    assert "secret" not in fault.message


def test_a_public_data_set_takes_no_address(service: Service) -> None:
    task = {"kind": "classification"} | {
        "dataset": {"kind": "torchvision", "name": "MNIST", "root": "https://host/mnist"}
    }
    with pytest.raises(Invalid) as caught:
        service.study(task=task)
    assert caught.value.errors[0].pointer == "/task/dataset/root"
