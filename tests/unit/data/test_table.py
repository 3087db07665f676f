"""Tables of pictures: what is learned of each, what is wrong with which row."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.pictures import folder_task, table_task, write_classes, write_table
from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Recipe
from worker.data import Seal, TaskData, load, open_test
from worker.data.errors import (
    BadRows,
    ColumnTwice,
    DataMissing,
    MissingColumns,
    NothingToMeasure,
    TableUnreadable,
)
from worker.training.objective import objectives

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
    assert (labels.shape, labels.dtype) == ((12, 1), np.float64)
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


def test_a_row_that_changes_its_split_is_there_though_its_picture_and_label_stay(
    tmp_path: Path,
) -> None:
    words = ["train"] * 10 + ["val"] * 6 + ["test"] * 4
    first = _divided(tmp_path, words)
    other = _divided(tmp_path, list(reversed(words)))
    assert first.sha256 == other.sha256
    assert first.split_sha256 != other.split_sha256
    assert other.counts == {"train": 10, "validation": 6, "test": 4}
    assert sorted(other.validation.labels[:, 0]) == list(range(4, 10))
    own = table_task(tmp_path / "table.csv", "regression", ["age"])
    assert load(own, cache_dir=tmp_path / "cache").counts["train"] == 12


def _divided(folder: Path, words: list[str]) -> TaskData:
    rows = [f"{n}.png,{n},{word}" for n, word in enumerate(words)]
    path = _table(folder, rows, "image,age,part")
    task = table_task(path, "regression", ["age"], split="part")
    return load(task, cache_dir=folder / "cache")


def test_the_split_is_that_of_the_pictures_whatever_their_numbers(tmp_path: Path) -> None:
    def labels(folder: str, rows: list[str] | None) -> list[float]:
        task = table_task(_table(tmp_path / folder, rows), "regression", ["age"])
        return list(load(task, cache_dir=tmp_path / "cache").train.labels[:, 0])

    changed = [row.replace(",15.0,", ",99,") for row in _rows()]
    one, three = labels("one", None), labels("three", changed)
    assert one == labels("two", None)
    assert three == [99 if number == 15.0 else number for number in one] != one


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


def test_every_bad_row_is_told_at_once_with_its_line_and_reason(tmp_path: Path) -> None:
    bad = [
        "0.png,three,cat,no,train",
        "1.png,nan,cat,no,train",
        "2.png,1,cat,perhaps,train",
        "gone.png,1,cat,no,train",
        "3.png,1,cat,no,later",
        "4.png,1,cat",
        "5.png,1,cat,no,train,more",
        ",1,cat,no,train",
        "7.png,1,cat,no,train",
    ]
    path = _table(tmp_path, bad, "image,age,pet,sex,part")
    task = table_task(path, "multi_task", [PET, AGE, SEX], split="part")
    with pytest.raises(BadRows) as caught:
        load(task, cache_dir=tmp_path / "cache")
    reasons = caught.value.reasons
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 8, 9]
    for number, why in {
        2: "'age' is 'three', not a number",
        3: "'age' is 'nan'",
        4: "'sex' is 'perhaps', neither 0 nor 1",
        5: f"'gone.png' is not a file in {tmp_path}",
        6: "'part' is 'later', not one of train",
        7: "no cell for 'sex'",
        8: "more cells than there are columns",
        9: "'image' is empty",
    }.items():
        assert why in reasons[number]
    assert str(path) in str(caught.value)
    assert "line 2: 'age' is 'three'" in str(caught.value)


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
        "line 2": "'age' is 'three', not a number that can be learned",
        "line 23": "has no label",
    }
    _table(tmp_path)
    assert load(task, cache_dir=tmp_path / "cache").skipped.count == 0


def test_a_table_of_bad_rows_alone_is_refused_whatever_is_to_be_skipped(tmp_path: Path) -> None:
    path = _table(tmp_path, ["3.png,three,cat,no"])
    task = table_task(path, "regression", ["age"], on_bad_file="skip")
    with pytest.raises(BadRows, match="line 2"):
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


def test_large_numbers_that_differ_by_little_stay_apart(tmp_path: Path) -> None:
    numbers = [1_700_000_000 + number for number in range(20)]
    rows = [f"{n}.png,{number}" for n, number in enumerate(numbers)]
    path = _table(
        tmp_path,
        [f"{row},train" for row in rows[:12]]
        + [f"{row},{part}" for row, part in zip(rows[12:], ["val", "test"] * 4, strict=True)],
        "image,time,part",
    )
    data = load(
        table_task(path, "regression", ["time"], split="part"), cache_dir=tmp_path / "c"
    )
    assert sorted(data.train.labels[:, 0]) == numbers[:12]
    (target,) = data.targets
    assert (target.mean, target.std) == pytest.approx((1_700_000_005.5, np.std(range(12))))


def test_equal_numbers_are_not_divided_by_what_rounding_leaves(tmp_path: Path) -> None:
    # The mean of three times 0.1 is not 0.1, and so their deviation is not 0.
    rows = [f"{n}.png,0.1,{n % 2}" for n in range(20)]
    task = table_task(_table(tmp_path, rows, "image,age,sex"), "multi_task", [AGE, SEX])
    assert load(task, cache_dir=tmp_path / "c").targets[0].std == 1


def _parts(*labels: str) -> list[str]:
    """Six rows of train, and two each of validation and test with these labels."""
    words = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    values = ["0", "1"] * 3 + list(labels)
    return [f"{n}.png,{v},{w}" for n, (v, w) in enumerate(zip(values, words, strict=True))]


@pytest.mark.parametrize(
    ("kind", "objective", "labels", "why"),
    [
        ("classification", "accuracy", "1100", None),
        ("classification", "auroc", "1101", "validation split has no two labels"),
        ("classification", "auroc", "0110", None),
        ("classification", "balanced_accuracy", "1101", None),
        ("classification", "f1_macro", "1101", None),
        ("multi_label", "average_precision", "0001", "validation split has no two labels"),
        ("multi_label", "f1_macro", "0100", "test split has no two labels"),
        ("multi_label", "exact_match", "0000", None),
        ("multi_label", "loss", "0000", None),
        ("regression", "r2", "1101", "validation split has no two labels"),
        ("regression", "pearson", "1101", "validation split has no two labels"),
        ("regression", "rmse", "1111", None),
    ],
)
def test_one_label_is_enough_for_an_objective_that_compares_none(
    tmp_path: Path, kind: TaskKind, objective: str, labels: str, why: str | None
) -> None:
    path = _table(tmp_path, _parts(*labels), "image,x,part")
    task = table_task(path, kind, ["x"], split="part", objective=objective)
    if why is None:
        data = load(task, cache_dir=tmp_path / "cache")
        assert list(data.validation.labels.flat) == [float(label) for label in labels[:2]]
        return
    with pytest.raises(NothingToMeasure, match=f"{why}.*{objective!r} can be measured"):
        load(task, cache_dir=tmp_path / "cache")


def test_a_target_that_a_split_does_not_know_is_no_objective(tmp_path: Path) -> None:
    words = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    rows = [f"{n}.png,{n % 2},{'' if w == 'val' else n},{w}" for n, w in enumerate(words)]
    path = _table(tmp_path, rows, "image,sex,age,part")
    task = table_task(path, "multi_task", [SEX, AGE], split="part", objective="age.mae")
    with pytest.raises(NothingToMeasure, match="validation split has no known label in 'age'"):
        load(task, cache_dir=tmp_path / "cache")
    whole = task.model_copy(update={"objective": "loss"})
    assert np.isnan(load(whole, cache_dir=tmp_path / "cache").validation.labels[:, 1]).all()


def test_pictures_of_one_class_do_for_accuracy_and_not_for_auroc(tmp_path: Path) -> None:
    for part, classes in {"train": "ab", "val": "a", "test": "ab"}.items():
        write_classes(tmp_path / "pets" / part, dict.fromkeys(classes, 3), mode="L")
    task = folder_task(tmp_path / "pets")
    assert load(task, cache_dir=tmp_path / "cache").counts["validation"] == 3
    task = task.model_copy(update={"objective": "auroc"})
    with pytest.raises(NothingToMeasure, match="pets: the validation split has no two labels"):
        load(task, cache_dir=tmp_path / "cache")


def test_partial_labels_as_pandas_writes_them_are_labels(tmp_path: Path) -> None:
    """A column of 0 and 1 becomes one of floats when some of it is not known; a row may have nothing that is."""
    cells = ["1.0,0.0", ",1.0", "0.0,", ",", "0,1.00"]
    rows = [f"{n}.png,{cells[n % 5]},train" for n in range(10)]
    rows += [
        f"{n}.png,{cells[n % 2]},{part}"
        for n, part in enumerate(["val"] * 4 + ["test"] * 4, 10)
    ]
    path = _table(tmp_path, rows, "image,left,right,part")
    task = table_task(path, "multi_label", ["left", "right"], split="part")
    data = load(task, cache_dir=tmp_path / "cache")
    nan = np.nan
    expected = [[1, 0], [nan, 1], [0, nan], [nan, nan], [0, 1]]
    assert np.array_equal(data.train.labels, expected * 2, equal_nan=True)
    objective = objectives.of(data, Recipe())
    labels = torch.from_numpy(data.train.labels)
    outputs = torch.zeros(10, 2)
    # Seven labels of each column are known to be what they are, and a logit of 0 gives each a loss of log 2.
    measured = objective.metrics(outputs, labels)
    assert measured["loss"] == pytest.approx(np.log(2))
    assert objective.loss(outputs, labels).item() == pytest.approx(np.log(2))
    assert measured["exact_match"] == pytest.approx(2 / 8)


@pytest.mark.parametrize("kind", ["regression", "classification", "multi_label"])
def test_a_row_without_the_only_label_is_refused(tmp_path: Path, kind: TaskKind) -> None:
    rows = [f"{n}.png,{n % 2}" for n in range(19)] + ["19.png,"]
    task = table_task(_table(tmp_path, rows, "image,x"), kind, ["x"])
    with pytest.raises(BadRows, match="line 21: has no label"):
        load(task, cache_dir=tmp_path / "cache")


def test_numbers_of_several_targets_are_partial_too(tmp_path: Path) -> None:
    height = {"column": "height", "kind": "regression"}
    rows = [f"{n}.png,{n if n % 2 else ''},{'' if n % 2 else 10 * n}" for n in range(20)]
    task = table_task(_table(tmp_path, rows, "image,age,height"), "multi_task", [AGE, height])
    data = load(task, cache_dir=tmp_path / "cache")
    for target, labels in zip(data.targets, data.train.labels.T, strict=True):
        known = labels[~np.isnan(labels)]
        assert 0 < len(known) < len(labels)
        assert (target.mean, target.std) == pytest.approx((known.mean(), known.std()))


def test_a_column_that_is_read_has_a_name_of_its_own(tmp_path: Path) -> None:
    rows = [f"{n}.png,{n},{n % 2},,," for n in range(20)]
    path = _table(tmp_path, rows, "image,age,sex,age,,")
    with pytest.raises(ColumnTwice, match="columns 2, 4 of its first line are all named 'age'"):
        load(table_task(path, "regression", ["age"]), cache_dir=tmp_path / "cache")
    other = table_task(path, "multi_label", ["sex"])
    assert load(other, cache_dir=tmp_path / "cache").counts["train"] == 12


def test_a_long_cell_is_no_matter_where_it_is_not_read(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows = [f"{n}.png,{n},{'x' * 200_000 if n == 3 else ''}" for n in range(20)]
    path = _table(tmp_path, rows, "image,age,notes")
    data = load(table_task(path, "regression", ["age"]), cache_dir=tmp_path / "cache")
    assert sum(data.counts.values()) == 20
    with pytest.raises(BadRows) as caught:
        load(table_task(path, "regression", ["age"], image="notes"), cache_dir=tmp_path / "c")
    assert f"line 5: '{'x' * 60}...' is not a file" in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert csv.field_size_limit() == before


def test_names_that_no_disk_takes_are_bad_rows(tmp_path: Path) -> None:
    path = _table(tmp_path, [*_rows(), f"{'x' * 300}.png,3,cat,no", "a\0b.png,4,cat,no"])
    task = table_task(path, "regression", ["age"], on_bad_file="skip")
    skipped = load(task, cache_dir=tmp_path / "cache").skipped
    assert [(file.path[:7], file.reason[:14]) for file in skipped.first] == [
        ("line 23", "'a\\x00b.png' i"),
        ("xxxxxxx", "[Errno 36] Fil"),
    ]
    with pytest.raises(BadRows) as caught:
        load(task.model_copy(update={"on_bad_file": "fail"}), cache_dir=tmp_path / "c")
    assert list(caught.value.reasons) == [22, 23]


def test_a_row_is_told_by_the_line_that_it_begins_in(tmp_path: Path) -> None:
    rows = ['0.png,1,"two', 'lines"', "", "1.png,x,", '2.png,y,"three', "lines", 'here"']
    path = _table(
        tmp_path,
        [*rows, "3.png,4,"],
        'image,age,"no',
    )
    path.write_text(path.read_text().replace('"no', '"no\ntes"', 1))
    with pytest.raises(BadRows) as caught:
        load(table_task(path, "regression", ["age"]), cache_dir=tmp_path / "cache")
    assert list(caught.value.reasons) == [6, 7]
    path.write_text('image,age\n0.png,1\n"1.png"x,2\n')
    with pytest.raises(TableUnreadable, match="line 3: "):
        load(table_task(path, "regression", ["age"]), cache_dir=tmp_path / "cache")
