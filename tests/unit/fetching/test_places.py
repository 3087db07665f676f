"""Where in what was fetched the data set is."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from trimtab.contract.datasets import Dataset
from worker.fetching.errors import NotInside
from worker.fetching.places import place

DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
FOLDER = {"kind": "image_folder"}
CSV = {"kind": "csv", "targets": ["label"], "text": "text"}


def placed(tmp_path: Path, files: list[str], kind: dict[str, Any], inside: str = "") -> str:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    path = f"https://host/data.tar{inside and '#'}{inside}"
    return str(
        place(DATASET.validate_python({**kind, "path": path}), tmp_path).relative_to(tmp_path)
    )


@pytest.mark.parametrize(
    ("files", "kind", "inside", "found"),
    [
        (["cat/1", "dog/1"], FOLDER, "", "."),
        (["pets/cat/1", "pets/dog/1", ".DS_Store"], FOLDER, "", "pets"),
        (["pets/cat/1", "README"], FOLDER, "pets", "pets"),
        (["data"], CSV, "", "data"),
        (["a/rows.csv", "a/pictures/1.png"], CSV, "", "a/rows.csv"),
        (["a/rows.csv", "b/rows.csv"], CSV, "b/rows.csv", "b/rows.csv"),
    ],
)
def test_the_data_set_is_found(
    tmp_path: Path, files: list[str], kind: dict[str, Any], inside: str, found: str
) -> None:
    assert placed(tmp_path, files, kind, inside) == found


@pytest.mark.parametrize(
    ("files", "kind", "inside", "told"),
    [
        (["data"], FOLDER, "", "one file and not an archive"),
        (["pets/1"], FOLDER, "cats", "no 'cats' in it, but at its top 'pets'"),
        (["train.csv", "test.csv"], CSV, "", "it has 2 files"),
        (["readme.txt"], CSV, "", r"it has no files \*.csv at its top, but 'readme.txt'"),
    ],
)
def test_a_data_set_that_is_not_there_is_told(
    tmp_path: Path, files: list[str], kind: dict[str, Any], inside: str, told: str
) -> None:
    with pytest.raises(NotInside, match=told):
        placed(tmp_path, files, kind, inside)
