"""Records for tests."""

from typing import Any

from trimtab.contract.records import TrialRecord


def a_record(**changes: Any) -> TrialRecord:
    """What a worker may have found; other fields may be replaced."""
    found: dict[str, Any] = {
        "data_sha256": "d" * 64,
        "split_sha256": "5" * 64,
        "pictures": {"train": 60, "validation": 20, "test": 20},
        "classes": 2,
        "class_counts": (
            {"name": "cat", "train": 30, "validation": 10, "test": 10},
            {"name": "dog", "train": 30, "validation": 10, "test": 10},
        ),
        "labels_used": 10,
        "notes": ("a note",),
        "environment": {
            "device": "cpu",
            "precision": "float32",
            "torch": "2.15.0",
            "threads": 2,
        },
    }
    return TrialRecord.model_validate(found | changes)
