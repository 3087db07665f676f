"""What `sampler: auto` stands for."""

from typing import Any

import pytest

from service.domain.auto_search import chosen
from service.use_cases.settling import with_chosen_search
from tests.support.documents import a_study_document
from trimtab.contract.pruners import MedianPruner
from trimtab.contract.schedulers import AshaScheduler, FreezeThawScheduler
from trimtab.contract.studies import StudyDocument

RATE = {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}
OPTIMIZER = {"kind": "choices", "choices": ["sgd", "adamw"]}
FREEZE_THAW, MEDIAN = FreezeThawScheduler(kind="freeze_thaw"), MedianPruner(kind="median")


def document(
    search: dict[str, Any] | None = None, *, objective: str = "accuracy", **changes: Any
) -> StudyDocument:
    usual: dict[str, Any] = {
        "task": {
            "kind": "classification",
            "dataset": {"kind": "builtin", "name": "digits"},
            "objective": objective,
        },
        "space": {"learning_rate": RATE, "optimizer": OPTIMIZER},
        "fixed": {"epochs": 20},
        "budget": {"trials": 40},
    }
    return a_study_document(**(usual | changes), search={"sampler": "auto", **(search or {})})


def test_it_is_freeze_thaw_with_a_gaussian_process_where_that_was_shown_to_be_better():
    found = chosen(document())
    assert (found.sampler, found.pruner) == ("gp", FREEZE_THAW)
    assert found.reason == (
        "gp with freeze_thaw, which gives each next epoch to the trial that promises most for it: accuracy lies within 0 "
        "and 1, 1 of 2 dimensions are ranges, and the search has 40 trials of 20 epochs."
    )


EPOCHS = {"kind": "int", "low": 5, "high": 30}
ELSEWHERE: list[tuple[dict[str, Any], str]] = [
    ({"objective": "loss"}, "loss has no worst value"),
    ({"space": {"optimizer": OPTIMIZER}}, "all dimensions are choices"),
    ({"space": {"learning_rate": RATE, "epochs": EPOCHS}, "fixed": {}}, "epochs is searched"),
    ({"budget": {"trials": 19}}, "the search has 19 trials"),
    ({"fixed": {"epochs": 5}}, "a trial has 5 epochs"),
]


@pytest.mark.parametrize(("changes", "why"), ELSEWHERE)
def test_elsewhere_it_is_tpe_with_the_median_pruner(changes: dict[str, Any], why: str):
    found = chosen(document(**changes))
    assert (found.sampler, found.pruner) == ("tpe", MEDIAN)
    assert found.reason.startswith(f"tpe with the median pruner: {why}")


@pytest.mark.parametrize(
    "changes", [{"budget": {"trials": 20}}, {"fixed": {"epochs": 6}}, {"objective": "auroc"}]
)
def test_the_bounds_themselves_are_enough(changes: dict[str, Any]):
    assert chosen(document(**changes)).pruner == FREEZE_THAW


def test_the_refits_are_no_trials_of_the_search():
    finish = {"refit": True, "ensemble": 3}
    found = chosen(document(budget={"trials": 22}, finish=finish))
    assert found.sampler == "tpe"
    assert "the search has 19 trials" in found.reason


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2", "pearson", "loss"])
def test_metrics_of_numbers_have_no_worst_value_or_go_below_0(metric: str):
    task = {
        "kind": "regression",
        "dataset": {"kind": "csv", "path": "/data/a.csv", "targets": ["age"]},
        "objective": metric,
    }
    assert chosen(document(task=task)).sampler == "tpe"


@pytest.mark.parametrize(
    ("changes", "sampler"),
    [({}, "gp"), ({"objective": "loss"}, "tpe"), (ELSEWHERE[1][0], "tpe")],
)
def test_a_pruner_of_ones_own_stays(changes: dict[str, Any], sampler: str):
    found = chosen(document({"pruner": "asha"}, **changes))
    assert (found.sampler, found.pruner) == (sampler, AshaScheduler(kind="asha"))
    assert "beside the pruner asha, which the document names" in found.reason


def test_freeze_thaw_of_ones_own_gets_the_sampler_that_it_needs():
    found = chosen(document({"pruner": "freeze_thaw"}, objective="loss"))
    assert (found.sampler, found.pruner) == ("gp", FREEZE_THAW)


def test_the_choice_stands_in_the_document_with_its_reason():
    settled = with_chosen_search(document())
    assert (settled.search.sampler, settled.search.pruner) == ("gp", FREEZE_THAW)
    assert settled.search.auto_reason == chosen(document()).reason
    assert StudyDocument.model_validate_json(settled.model_dump_json()) == settled
    assert with_chosen_search(settled) == settled


def test_a_sampler_of_ones_own_needs_no_reason():
    own = document({"sampler": "tpe"})
    assert with_chosen_search(own) == own
    assert own.search.auto_reason is None


@pytest.mark.parametrize(("changes", "why"), [({}, ""), *ELSEWHERE])
def test_every_choice_is_a_legal_document(changes: dict[str, Any], why: str):
    settled = with_chosen_search(document(**changes))
    assert StudyDocument.model_validate(settled.model_dump()).search == settled.search
    assert why in (settled.search.auto_reason or "")
