"""Names that are no text: of classes refused before the first trial, of files told."""

import os
from pathlib import Path

import pytest

from tests.support.pictures import folder_task, write_classes
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from worker import data
from worker.data.errors import ClassNameUnreadable
from worker.runner import trial_record
from worker.runner.failures import failure_of

LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("under", ["", "train"])
def test_a_class_whose_name_is_no_utf8_is_refused_before_anything_is_trained(
    tmp_path: Path, under: str
) -> None:
    root = tmp_path / "places"
    write_classes(root / under, {LATIN: 4, "bar": 4, "großstadt": 4})
    with pytest.raises(ClassNameUnreadable) as refused:
        data.load(folder_task(root), cache_dir=tmp_path / "cache")
    assert r"not UTF-8: 'caf\xe9' (" in str(refused.value)
    assert "bar" not in str(refused.value)
    failure = failure_of(refused.value)
    assert (failure.error, failure.retryable) == ("user_error", False)
    assert r"caf\xe9" in failure.message


def test_a_file_whose_name_is_no_utf8_is_learned_from_and_told_where_it_is_left_out(
    tmp_path: Path,
) -> None:
    write_classes(tmp_path / "pets", {"cat": 10, "dog": 10})
    cats = tmp_path / "pets/cat"
    (cats / "000.png").rename(cats / f"{LATIN}.png")
    (cats / f"{LATIN}.jpg").write_text("no picture")
    task = folder_task(tmp_path / "pets").model_copy(update={"on_bad_file": "skip"})
    seen = data.load(task, cache_dir=tmp_path / "cache")
    assert sum(seen.counts.values()) == 20
    record = trial_record.record_of(seen, Recipe(), CPU)
    told = type(record).model_validate_json(record.model_dump_json())
    assert [file.path for file in told.skipped.first] == ["cat/caf\ufffd.jpg"]
