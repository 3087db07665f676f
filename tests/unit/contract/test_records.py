"""Records stay small, whatever the files and classes are called."""

import pytest

from tests.support.records import a_record

WORST = ("\N{GRINNING FACE}" * 9999, '"' * 9999, "\x01" * 9999, "\0\ud800" * 9999, "x" * 9999)


@pytest.mark.parametrize("text", WORST)
def test_the_largest_record_has_less_than_80_kib(text: str) -> None:
    most = 2**53 - 1
    names = {"count": most, "first": (text,) * 10}
    twins = {"paths": (text, text), "parts": ("validation",) * 2, "same_label": False}
    count = {"name": text, "train": most, "validation": most, "test": most}
    record = a_record(
        pictures={"train": most, "validation": most, "test": most},
        classes=most,
        class_counts=(count,) * 100,
        labels_used=most,
        skipped={"count": most, "first": ({"path": text, "reason": text},) * 20},
        left_out=({"reason": text, "count": most, "first": (text,) * 5},) * 8,
        duplicates={"copies": most, "first": (twins,) * 20},
        weights={
            "source": text,
            "part": text,
            **dict.fromkeys(("matched", "left_out", "quantised", "missing", "unused"), names),
        },
        notes=(text,) * 20,
        environment={"device": text, "precision": text, "torch": text},
    )
    assert len(record.model_dump_json().encode()) < 80 * 1024
    assert type(record).model_validate_json(record.model_dump_json()) == record


def test_an_ordinary_line_is_kept_whole() -> None:
    line = "pictures of ä and \N{GRINNING FACE}: 7"
    assert a_record(notes=(line,)).notes == (line,)
