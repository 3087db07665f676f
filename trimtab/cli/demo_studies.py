"""The two studies of `trimtab demo`: a search, and one plain run that it is held against."""

import itertools
from collections.abc import Callable
from typing import Any

from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.final_report import CandidateKind, Interval
from trimtab.contract.studies import Study, StudyDocument

TRIALS = 16
EPOCHS = 10
SEARCH_S = 90.0
"""Seconds after which the search ends, for slow machines."""

PLAIN_RATE = 1e-3
"""The learning rate of the plain run: the one that AdamW has by itself."""


def document(name: str) -> StudyDocument:
    """Return the demo's study: it adapts glyphnet, which has seen printed glyphs only, to handwritten digits."""
    return StudyDocument.model_validate(
        {
            **_digits(name),
            "space": "auto",
            "search": {"sampler": "tpe", "pruner": {"kind": "median", "startup_trials": 4}},
            "budget": {"trials": TRIALS, "wall_time_s": SEARCH_S},
        }
    )


def plain_document(name: str) -> StudyDocument:
    """Return what a plain script does, as a study: one recipe, trained on all that is not the test split."""
    return StudyDocument.model_validate(
        {
            **_digits(name),
            "space": {"learning_rate": {"kind": "choices", "choices": [PLAIN_RATE]}},
            "fixed": {"epochs": EPOCHS, "optimizer": "adamw", "schedule": "constant"},
            "search": {"sampler": "grid", "pruner": "none", "known_recipes": False},
            "budget": {"trials": 2},
            "finish": {"refit": True},
        }
    )


def _digits(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet", "weights": "default"},
        "fixed": {"epochs": EPOCHS},
        "lease_ttl_s": 20.0,
    }


def create(client: Client, base: str, document: Callable[[str], StudyDocument]) -> Study:
    """Create a study under the first free name: digits, digits-2, ..."""
    for number in itertools.count(1):
        try:
            return client.create_study(document(base if number == 1 else f"{base}-{number}"))
        except problems.StudyExists:
            continue
    raise AssertionError("there is always a next number")


def tested(study: Study, kind: CandidateKind) -> Interval | None:
    """Return what one of a study's candidates scored on the test split; None where it was not measured."""
    report = None if study.final is None else study.final.report
    candidates = () if report is None else report.candidates
    return next((one.test for one in candidates if one.kind == kind), None)
