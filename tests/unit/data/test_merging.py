"""Train and validation together, as one training split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.pictures import tiny_data
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.tasks import Task
from worker.data import TaskData, load, with_validation

DIGITS = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return load(DIGITS, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("kept", [True, False])
def test_the_rows_of_train_come_first_and_those_of_validation_behind(
    tmp_path: Path, digits: TaskData, *, kept: bool
) -> None:
    both = with_validation(digits, tmp_path if kept else None)
    parts = (digits.train, digits.validation)
    assert np.array_equal(both.train.inputs, np.concatenate([part.inputs for part in parts]))
    assert np.array_equal(both.train.labels, np.concatenate([part.labels for part in parts]))
    assert both.train.inputs.dtype == digits.train.inputs.dtype
    assert len(both.validation) == len(both.validation.inputs) == 0


def test_a_second_training_finds_the_file_of_the_first(
    tmp_path: Path, digits: TaskData
) -> None:
    with_validation(digits, tmp_path)
    (file,) = tmp_path.glob("*/train.npy")
    written = file.stat().st_mtime_ns
    assert isinstance(with_validation(digits, tmp_path).train.inputs, np.memmap)
    assert file.stat().st_mtime_ns == written


def test_the_key_tells_it_from_the_train_split_alone(digits: TaskData) -> None:
    assert with_validation(digits).key not in ("", digits.key)
    assert with_validation(tiny_data()).key == ""


def test_few_shots_are_the_same_ones_with_all_of_validation(tmp_path: Path) -> None:
    few = load(DIGITS, cache_dir=tmp_path, few=3)
    both = with_validation(few, tmp_path)
    assert few.train.rows is not None
    assert both.train.rows is not None
    assert len(both.train) == 30 + 359
    taken = both.train.inputs[both.train.rows]
    assert np.array_equal(taken[:30], few.train.inputs[few.train.rows])
    assert np.array_equal(taken[30:], few.validation.inputs)
    assert np.array_equal(both.train.labels[30:], few.validation.labels)


def test_all_that_is_told_of_the_data_stays_as_it_was(digits: TaskData) -> None:
    both = with_validation(digits)
    assert replace(both, train=digits.train, validation=digits.validation, key=digits.key) == (
        digits
    )
