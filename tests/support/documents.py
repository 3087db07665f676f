"""Study documents for tests."""

from typing import Any

from trimtab.contract.studies import StudyDocument

PLAIN: dict[str, Any] = {"known_recipes": False, "initial_trials": 0, "transfer": "none"}
"""A search whose sampler proposes from the first trial on, in recipes as they are written: most tests are about something
else than what a study begins with."""


def a_document(**changes: Any) -> dict[str, Any]:
    """A small valid study document as JSON would hold it; top-level keys may be replaced.

    A `search` that says nothing of it is `PLAIN`.
    """
    search = changes.get("search", {"sampler": "random", "pruner": "none"})
    return {
        "name": "digits",
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet", "weights": "default"},
        "space": {
            "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
            "batch_size": {"kind": "choices", "choices": [16, 32, 64]},
        },
        "fixed": {"epochs": 4},
        "budget": {"trials": 4},
        "finish": {"refit": False},
        **changes,
        "search": PLAIN | search if isinstance(search, dict) else search,
    }


def a_study_document(**changes: Any) -> StudyDocument:
    """The same, parsed."""
    return StudyDocument.model_validate(a_document(**changes))
