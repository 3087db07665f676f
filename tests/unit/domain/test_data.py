"""What a person is told of data that differ from the study's."""

import pytest

from service.domain import data
from tests.support.records import a_record
from trimtab.contract.records import StudyData

BEGAN = a_record().data


def of(**changes: object) -> StudyData:
    return a_record(**changes).data


def classes(*names: str) -> dict[str, object]:
    counts = [{"name": name, "train": 1, "validation": 1, "test": 1} for name in names]
    return {"data_sha256": "e" * 64, "classes": len(names), "class_counts": tuple(counts)}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (
            of(data_sha256="e" * 64, pictures={"train": 61, "validation": 20, "test": 19}),
            "61 pictures instead of 60 in train; 19 pictures instead of 20 in test",
        ),
        (
            of(data_sha256="e" * 64),
            "as many pictures, with other content, names, labels or order",
        ),
        (of(split_sha256="6" * 64), "the same pictures, divided into other splits"),
        (of(split_sha256=None), "the same pictures, divided into other splits"),
        (
            of(**classes("cat", "dog", "fox")),
            "3 classes instead of 2; new: 'fox'",
        ),
        (of(**classes("cat", "fox")), "gone: 'dog'; new: 'fox'"),
        (of(**classes("cat")), "1 class instead of 2; gone: 'dog'"),
        (
            of(**classes(*"abcdefg", "cat", "dog")),
            "9 classes instead of 2; new: 'a', 'b', 'c', 'd', 'e' and 2 more",
        ),
    ],
)
def test_what_differs_is_told_in_counts_and_names(now: StudyData, told: str) -> None:
    assert not BEGAN.is_same(now)
    assert data.differences(BEGAN, now) == told


def test_a_file_that_went_bad_meanwhile_is_named_with_its_reason() -> None:
    old, new = ({"path": f"{name}.png", "reason": "truncated"} for name in ("old", "new"))
    before = of(skipped={"count": 1, "first": (old,)})
    now = of(data_sha256="e" * 64, skipped={"count": 2, "first": (old, new)})
    told = "bad files left out: 2 instead of 1, such as new.png (truncated)"
    assert data.differences(before, now) == told
    assert data.differences(now, before) == "bad files left out: 1 instead of 2"


def test_of_more_classes_than_a_record_names_only_their_number_is_compared() -> None:
    many = of(data_sha256="e" * 64, classes=150)
    assert data.differences(BEGAN, many) == "150 classes instead of 2"


def test_the_data_are_told_by_their_hashes_and_what_to_do() -> None:
    told = data.told("digits", BEGAN, of(data_sha256="e" * 64, split_sha256=None))
    assert "began with data dddddddddddd (split 555555555555)" in told
    assert "this worker has eeeeeeeeeeee (split none)" in told
    assert "trimtab study rebase digits" in told
    assert BEGAN.is_same(of(labels_used=3))
