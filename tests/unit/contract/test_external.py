"""The document of an external study: what it needs, and what has no meaning in it."""

from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.own_loops import an_external_document
from trimtab.contract.faults import faults
from trimtab.contract.studies import StudyDocument

RATE = {"kind": "float", "low": 0.1, "high": 1.0}


def refused(**changes: Any) -> dict[str, str]:
    """The faults of a document by their pointers."""
    given = an_external_document().model_dump(mode="json", exclude_none=True) | changes
    with pytest.raises(ValidationError) as caught:
        StudyDocument.model_validate(given)
    errors = caught.value.errors(include_url=False)
    return {one.pointer: one.message for one in faults(StudyDocument, given, errors)}


def test_a_document_names_an_objective_and_hyperparameters_of_its_own() -> None:
    document = an_external_document(space={"any name": RATE, "model": RATE})
    assert document.is_external
    assert (document.task.metric, document.task.direction) == ("accuracy", "maximize")
    assert document.model is None
    assert document.values({"any name": 0.5}) == {"width": 8, "any name": 0.5}
    assert document.search_budget.trials == document.budget.trials


def test_it_has_no_dataset_and_no_model_of_ours() -> None:
    task = {
        "kind": "external",
        "objective": "accuracy",
        "direction": "maximize",
        "dataset": {"kind": "builtin", "name": "digits"},
    }
    found = refused(
        task=task,
        model={"backbone": "glyphnet"},
        teacher={"kind": "study", "name": "digits"},
        finish={"refit": True},
    )
    assert set(found) == {"/task/dataset", "/model", "/teacher", "/finish"}
    assert "its loop reads data of its own" in found["/task/dataset"]
    assert "its loop makes its own" in found["/model"]


def test_it_needs_no_device() -> None:
    assert set(refused(needs={"gpu_memory_gb": 24})) == {"/needs"}


def test_it_is_finished_with_its_trials() -> None:
    found = refused(finish={"refit": True}, search={"transfer": ["digits"]})
    assert set(found) == {"/finish", "/search/transfer"}


@pytest.mark.parametrize("space", ["auto", None])
def test_it_says_what_is_searched(space: str | None) -> None:
    given = an_external_document().model_dump(mode="json", exclude_none=True)
    del given["space"], given["auto_space"]
    changes = {} if space is None else {"space": space}
    with pytest.raises(ValidationError, match="names its hyperparameters itself"):
        StudyDocument.model_validate(given | changes)


def test_its_epochs_are_a_number_of_reports() -> None:
    assert an_external_document(fixed={"epochs": 20}).epochs == 20
    searched = {"kind": "int", "low": 2, "high": 9}
    assert an_external_document(space={"epochs": searched}).epochs == 9
    assert set(refused(fixed={"epochs": 2.5})) == {"/fixed/epochs"}
    assert set(refused(space={"epochs": RATE})) == {"/space/epochs"}


def test_a_search_that_pauses_trials_has_to_know_how_many_epochs_they_have() -> None:
    search = {"pruner": {"kind": "hyperband"}}
    assert "set `epochs` in `fixed`" in refused(search=search)["/search/pruner"]
    assert an_external_document(search=search, fixed={"epochs": 9}).search.schedules


def test_its_constraints_and_second_objective_are_of_metrics_that_it_names() -> None:
    found = refused(constraints=[{"metric": "latency_ms", "max": 5}])
    assert set(found) == {"/constraints/0/metric"}
    document = an_external_document(
        task={
            "kind": "external",
            "objective": "reward",
            "direction": "maximize",
            "metrics": ["fuel"],
        },
        search={"sampler": "gp"},
        objectives=[{"metric": "reward"}, {"metric": "fuel", "direction": "minimize"}],
    )
    assert document.second_direction == "minimize"


def test_a_metric_is_named_once() -> None:
    task = {
        "kind": "external",
        "objective": "reward",
        "direction": "maximize",
        "metrics": ["reward"],
    }
    assert refused(task=task) == {"/task": "each metric is named once; named twice: reward"}


def test_a_study_of_workers_still_needs_a_model() -> None:
    given = {
        "name": "digits",
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "budget": {"trials": 1},
    }
    with pytest.raises(ValidationError) as caught:
        StudyDocument.model_validate(given)
    errors = caught.value.errors(include_url=False)
    (fault,) = faults(StudyDocument, given, errors)
    assert (fault.pointer, fault.code, fault.message) == ("/model", "missing", "Field required")
