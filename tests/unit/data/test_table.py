"""Tables of pictures: what is learned of each, what is wrong with which row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.pictures import table_task, write_classes, write_table
from trimtab.contract.metrics import TaskKind
from worker.data import Seal, load, open_test
from worker.data.errors import (
    BadRows,
    DataMissing,
    MissingColumns,
    NothingToMeasure,
    TableUnreadable,
)

AGE = {"column": "age", "kind": "regression", "weight": 2}
PET = {"column": "pet", "kind": "classification"}
SEX = {"column": "sex", "kind": "binary"}


def _rows(count: int = 20) -> list[str]:
    return [
        f"{number}.png,{number * 1.5},{'cat' if number % 2 else 'ant'},{('no', 'Yes')[number // 2 % 2]}"
        for number in range(count)
    ]


def _table(
    folder: Path, rows: list[str] | None = None, header: str = "image,age,pet,sex"
) -> Path:
    return write_table(folder, [header, *(_rows() if rows is None else rows)], pictures=20)


def test_a_number_is_a_label_in_its_own_unit_and_is_normalised_by_the_training_split(
    tmp_path: Path,
) -> None:
    task = table_task(_table(tmp_path), "regression", ["age"])
    data = load(task, cache_dir=tmp_path / "cache")
    labels = data.train.labels
    assert (labels.shape, labels.dtype) == ((12, 1), np.float32)
    sealed = open_test(task, Seal("final"), cache_dir=tmp_path / "cache").labels
    everyone = np.concatenate([labels, data.validation.labels, sealed])
    assert sorted(everyone[:, 0]) == [number * 1.5 for number in range(20)]
    (target,) = data.targets
    assert target.mean == pytest.approx(labels.mean())
    assert target.std == pytest.approx(labels.std())
    assert (data.kind, data.outputs, data.metric) == ("regression", ("age",), "rmse")


def test_a_single_column_of_classes_is_learned_like_an_image_folder(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 6, "ant": 6}, mode="L")
    files = [f"{name}/{number:03}.png,{name}" for name in ("cat", "ant") for number in range(6)]
    path = write_table(tmp_path, ["image,pet", *files])
    data = load(table_task(path, "classification", ["pet"]), cache_dir=tmp_path / "cache")
    assert data.outputs == data.classes == ("ant", "cat")
    assert (data.train.labels.dtype, data.train.labels.ndim) == (np.int64, 1)
    assert sorted(data.validation.labels) == [0, 1]


def test_several_targets_have_a_column_of_labels_each(tmp_path: Path) -> None:
    rows = [f"{n}.png,{n},{'cat' if n % 2 else 'ant'},{n % 2}" for n in range(20)]
    task = table_task(_table(tmp_path, rows), "multi_task", [PET, AGE, SEX])
    data = load(task, cache_dir=tmp_path / "cache")
    pet, age, sex = data.train.labels.T
    assert (pet == age % 2).all()
    assert (sex == pet).all()
    assert data.outputs == ("pet=ant", "pet=cat", "age", "sex")
    assert [(target.width, target.weight) for target in data.targets] == [
        (2, 1),
        (1, 2),
        (1, 1),
    ]


def test_an_empty_cell_is_a_label_that_is_not_known(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'' if n % 5 == 0 else n},,{n % 2}" for n in range(20)]
    task = table_task(_table(tmp_path, rows), "multi_task", [AGE, SEX])
    data = load(task, cache_dir=tmp_path / "cache")
    everyone = np.concatenate([data.train.labels, data.validation.labels])
    assert 0 < np.isnan(everyone[:, 0]).sum() <= 4
    assert not np.isnan(everyone[:, 1]).any()
    assert np.isfinite([data.targets[0].mean, data.targets[0].std]).all()


def test_a_column_of_splits_is_kept(tmp_path: Path) -> None:
    words = ["train"] * 10 + ["VAL", "valid", "validation"] * 2 + ["test"] * 4
    rows = [f"{n}.png,{n},{word}" for n, word in enumerate(words)]
    path = _table(tmp_path, rows, "image,age,part")
    task = table_task(path, "regression", ["age"], split="part")
    data = load(task, cache_dir=tmp_path / "cache")
    assert data.counts == {"train": 10, "validation": 6, "test": 4}
    assert sorted(data.validation.labels[:, 0]) == list(range(10, 16))


def test_the_split_is_that_of_the_data_and_other_labels_make_another(tmp_path: Path) -> None:
    def labels(folder: str, rows: list[str] | None) -> list[float]:
        task = table_task(_table(tmp_path / folder, rows), "regression", ["age"])
        return list(load(task, cache_dir=tmp_path / "cache").train.labels[:, 0])

    changed = [row.replace(",3.0,", ",99,") for row in _rows()]
    assert labels("one", None) == labels("two", None) != labels("three", changed)


def test_the_same_table_read_for_another_purpose_is_not_mistaken_for_it(tmp_path: Path) -> None:
    rows = [f"{n}.png,{n % 2}" for n in range(20)]
    path = _table(tmp_path, rows, "image,x")
    kinds: list[TaskKind] = ["regression", "multi_label", "classification"]
    found = [
        load(table_task(path, kind, ["x"]), cache_dir=tmp_path / "cache").outputs
        for kind in kinds
    ]
    assert found == [("x",), ("x",), ("0", "1")]
    renamed = _table(tmp_path, [row.replace(",0", ",9") for row in rows], "image,x")
    again = load(table_task(renamed, "classification", ["x"]), cache_dir=tmp_path / "cache")
    assert again.classes == ("1", "9")


def test_every_bad_row_is_told_at_once_with_its_number_and_reason(tmp_path: Path) -> None:
    bad = [
        "0.png,three,cat,no,train",
        "1.png,nan,cat,no,train",
        "2.png,1,cat,perhaps,train",
        "gone.png,1,cat,no,train",
        "3.png,1,cat,no,later",
        "4.png,1,cat",
        "5.png,1,cat,no,train,more",
        ",1,cat,no,train",
        "6.png,,,,train",
        "7.png,1,cat,no,train",
    ]
    path = _table(tmp_path, bad, "image,age,pet,sex,part")
    task = table_task(path, "multi_task", [PET, AGE, SEX], split="part")
    with pytest.raises(BadRows) as caught:
        load(task, cache_dir=tmp_path / "cache")
    reasons = caught.value.reasons
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    for number, why in {
        2: "'age' is 'three', not a number",
        3: "'age' is 'nan'",
        4: "'sex' is 'perhaps', neither 0 nor 1",
        5: f"'gone.png' is not a file in {tmp_path}",
        6: "'part' is 'later', not one of train",
        7: "no cell for 'sex'",
        8: "more cells than there are columns",
        9: "'image' is empty",
        10: "no label",
    }.items():
        assert why in reasons[number]
    assert str(path) in str(caught.value)
    assert "row 2: 'age' is 'three'" in str(caught.value)


def test_missing_files_are_left_out_and_told_where_bad_files_are_to_be_skipped(
    tmp_path: Path,
) -> None:
    path = _table(tmp_path, [*_rows(), "gone.png,3,cat,no"])
    task = table_task(path, "regression", ["age"], on_bad_file="skip")
    data = load(task, cache_dir=tmp_path / "cache")
    assert sum(data.counts.values()) == 20
    assert [file.path for file in data.skipped.first] == ["gone.png"]


def test_bad_rows_are_left_out_and_told_where_bad_files_are_to_be_skipped(
    tmp_path: Path,
) -> None:
    path = _table(tmp_path, ["3.png,three,cat,no", *_rows(), "4.png,,cat,no"])
    task = table_task(path, "regression", ["age"], on_bad_file="skip")
    data = load(task, cache_dir=tmp_path / "cache")
    assert sum(data.counts.values()) == 20
    told = {file.path: file.reason for file in data.skipped.first}
    assert told == {
        "row 2": "'age' is 'three', not a number that can be learned",
        "row 23": "has no label",
    }
    _table(tmp_path)
    assert load(task, cache_dir=tmp_path / "cache").skipped.count == 0


def test_a_table_of_bad_rows_alone_is_refused_whatever_is_to_be_skipped(tmp_path: Path) -> None:
    path = _table(tmp_path, ["3.png,three,cat,no"])
    task = table_task(path, "regression", ["age"], on_bad_file="skip")
    with pytest.raises(BadRows, match="row 2"):
        load(task, cache_dir=tmp_path / "cache")


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    task = table_task(_table(tmp_path), "multi_label", ["sex", "height"], split="part")
    with pytest.raises(MissingColumns, match=r"no column 'height', 'part'.*'age', 'pet'"):
        load(task, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"image,age\n\xff", "UTF-8"),
        (b'image,age\n"0.png', "unexpected end"),
        (b"image,age\n", "no rows"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(TableUnreadable, match=why):
        load(table_task(path, "regression", ["age"]), cache_dir=tmp_path / "cache")


def test_a_table_that_is_not_there_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no such file") as caught:
        load(table_task(tmp_path / "no.csv", "regression", ["age"]), cache_dir=tmp_path)
    assert caught.value.kind == "data_missing"


@pytest.mark.parametrize(
    ("changes", "fails"),
    [({}, False), ({"objective": "sex.auroc"}, True), ({"objective": "age.mae"}, False)],
)
def test_splits_on_which_the_objective_has_nothing_to_tell_apart_are_refused(
    tmp_path: Path, changes: dict[str, Any], fails: bool
) -> None:
    rows = [f"{n}.png,{n},0" for n in range(20)]
    path = _table(tmp_path, rows, "image,age,sex")
    task = table_task(path, "multi_task", [AGE, SEX], **changes)
    if not fails:
        load(task, cache_dir=tmp_path / "cache")
        return
    with pytest.raises(
        NothingToMeasure, match="train split has no two labels that differ in 'sex'"
    ):
        load(task, cache_dir=tmp_path / "cache")
