"""Constraints and objectives in a document: what is taken, and what is refused in which words."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.domain.auto_search import chosen
from tests.support.documents import a_document
from trimtab.contract import finish
from trimtab.contract.studies import StudyDocument

BOTH = [{"metric": "accuracy"}, {"metric": "latency_ms", "direction": "minimize"}]


def document(**changes: Any) -> StudyDocument:
    given = {name: value for name, value in a_document().items() if name != "search"}
    return StudyDocument.model_validate({**given, **changes})


def refused(**changes: Any) -> dict[str, str]:
    """The codes of the faults by their places."""
    with pytest.raises(ValidationError) as error:
        document(**changes)
    return {"/".join(map(str, each["loc"])): each["type"] for each in error.value.errors()}


@pytest.mark.parametrize(
    ("constraint", "code", "place"),
    [
        ({"metric": "latncy_ms", "max": 20}, "unknown_metric", "constraints/0/metric"),
        ({"metric": "rmse", "max": 20}, "unknown_metric", "constraints/0/metric"),
        ({"metric": "latency_ms"}, "without_bounds", "constraints/0"),
        ({"metric": "accuracy", "min": 0.9, "max": 0.8}, "bounds_swapped", "constraints/0"),
        ({"metric": "accuracy", "min": 1e-12}, "tiny_bound", "constraints/0"),
    ],
)
def test_a_constraint_that_says_nothing_is_refused(
    constraint: dict[str, Any], code: str, place: str
) -> None:
    assert refused(constraints=[constraint]) == {place: code}


def test_each_metric_has_one_constraint() -> None:
    twice = [{"metric": "accuracy", "min": 0.5}, {"metric": "accuracy", "max": 0.9}]
    assert refused(constraints=twice) == {"constraints/1/metric": "constrained_twice"}


def test_workers_measure_the_costs_that_are_named_and_no_others() -> None:
    bounds = [{"metric": "accuracy", "min": 0.5}, {"metric": "memory_bytes", "max": 1e9}]
    assert document(constraints=bounds).costs == ("memory_bytes",)
    assert document(objectives=BOTH).costs == ("latency_ms",)


def test_workers_hear_the_bounds_that_a_trial_can_violate_before_its_first_epoch_is_over() -> (
    None
):
    named = ("accuracy", "latency_ms", "memory_bytes", "parameters", "train_seconds")
    bounds = [{"metric": metric, "max": 0.5} for metric in named]
    told = [one.metric for one in document(constraints=bounds).foretold]
    assert told == ["latency_ms", "memory_bytes", "parameters"]


def test_a_model_whose_costs_count_is_one_trials() -> None:
    bounds = [{"metric": "parameters", "max": 1e6}]
    place = {"finish/ensemble": "ensemble_beside_costs"}
    assert refused(constraints=bounds, finish={"ensemble": 2}, budget={"trials": 9}) == place
    place = {"finish/seeds": "seeds_beside_costs"}
    assert refused(constraints=bounds, finish={"seeds": 2}, budget={"trials": 9}) == place
    assert document(constraints=bounds).bounds_the_model
    assert not document(constraints=[{"metric": "train_seconds", "max": 60}]).bounds_the_model
    assert finish.usual(20, grid=False).ensemble == 3
    assert finish.usual(20, grid=False, alone=True).ensemble == 1


@pytest.mark.parametrize(
    ("objectives", "faults"),
    [
        (BOTH[:1], {"objectives": "not_two_objectives"}),
        (BOTH[::-1], {"objectives/0/metric": "not_the_tasks_objective"}),
        ([BOTH[0], BOTH[0]], {"objectives/1/metric": "same_objective_twice"}),
        ([BOTH[0], {"metric": "speed"}], {"objectives/1/metric": "unknown_metric"}),
        (
            [BOTH[0], {"metric": "latency_ms", "direction": "maximize"}],
            {"objectives/1/direction": "wrong_direction"},
        ),
    ],
)
def test_two_objectives_are_the_tasks_own_and_another(
    objectives: list[Any], faults: dict[str, str]
) -> None:
    assert refused(objectives=objectives) == faults


def test_two_objectives_are_searched_by_what_can_and_nothing_prunes_their_trials() -> None:
    open_search = document(objectives=BOTH).search
    assert (open_search.sampler, open_search.pruner.kind) == ("gp", "none")
    assert refused(objectives=BOTH, search={"sampler": "tpe", "pruner": "median"}) == {
        "search/sampler": "sampler_of_one_objective",
        "search/pruner": "pruner_of_one_objective",
    }
    assert chosen(document(objectives=BOTH, search={"sampler": "auto"})).sampler == "gp"


def test_auto_leaves_constraints_to_what_learns_how_far_they_are_kept() -> None:
    bounds = [{"metric": "latency_ms", "max": 20}]
    found = chosen(document(constraints=bounds, search={"sampler": "auto"}))
    assert (found.sampler, found.pruner.kind) == ("gp", "median")
    plain = chosen(document(constraints=bounds, search={"sampler": "auto", "pruner": "none"}))
    assert (plain.sampler, plain.pruner.kind) == ("gp", "none")
