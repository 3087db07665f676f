"""Studies whose trials a loop of a person's own trains."""

from typing import Any

from trimtab.contract.studies import StudyDocument


def an_external_document(name: str = "own", **changes: Any) -> StudyDocument:
    """A study of one learning rate, whose trials report `accuracy`, and `loss` if they like."""
    task = {
        "kind": "external",
        "objective": "accuracy",
        "direction": "maximize",
        "metrics": ["loss"],
    }
    document: dict[str, Any] = {
        "name": name,
        "task": task,
        "space": {"rate": {"kind": "float", "low": 0.001, "high": 1.0, "log": True}},
        "fixed": {"width": 8},
        "search": {"pruner": "none"},
        "budget": {"trials": 3},
    }
    return StudyDocument.model_validate(document | changes)
