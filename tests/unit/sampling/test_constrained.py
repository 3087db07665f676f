"""What becomes of a search where a part of the space violates a constraint: nothing trains here, the samplers are real."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Sampling
from service.sampling.gaussian import GaussianSampler
from service.sampling.history import History, role
from service.sampling.scheduling.board import Standing, standing_of
from service.sampling.scheduling.halving import counts
from tests.unit.sampling.ledger import Clock, Ledger, document
from trimtab.contract.search_space import Scalar

SPACE: dict[str, Any] = {
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9},
    "label_smoothing": {"kind": "float", "low": 0.0, "high": 0.9},
}
TRIALS, SEEDS, BOUND = 40, 5, 0.3


def trained(number: int, values: Mapping[str, Scalar]) -> TrialFacts:
    """The more of both the better; a model may be as large as the sum of their squares allows, a tenth of the space."""
    x, y = (float(values[name] or 0) for name in SPACE)
    far = ((x * x + 2 * y * y) - BOUND) / BOUND
    value = x + y
    violation = far if far > 0 else None
    return TrialFacts(
        number, "completed", values, ((0, value),), value, violation=violation, margin=far
    )


def best_feasible(
    sampler: str,
    seed: int,
    judge: Callable[[int, Mapping[str, Scalar]], TrialFacts] = trained,
) -> float:
    study = document(SPACE, sampler=sampler, pruner="none", seed=seed)
    ledger = Ledger()
    sampling, found = Sampling(ledger.read, Clock()), [0.0]
    for number in range(TRIALS):
        with sampling.proposal(1, study, claim_id=str(number), next_number=number) as proposal:
            assert not isinstance(proposal, Exhausted)
        trial = judge(number, proposal.values)
        ledger.commit(trial)
        if trial.violation is None:
            found.append(trial.value or 0.0)
    return max(found)


def test_samplers_end_at_the_edge_of_what_is_feasible():
    chance, tpe, gp = (
        fmean(best_feasible(sampler, seed) for seed in range(SEEDS))
        for sampler in ("random", "tpe", "gp")
    )
    assert tpe > chance
    assert gp > chance


def judged_before(number: int, values: Mapping[str, Scalar]) -> TrialFacts:
    """The same, but what violates the bound is known to before it is trained."""
    trial = trained(number, values)
    return (
        trial
        if trial.violation is None
        else replace(trial, state="pruned", curve=(), value=None)
    )


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_learn_from_trials_that_were_not_trained(sampler: str):
    chance = [best_feasible("random", seed, judged_before) for seed in range(SEEDS)]
    found = [best_feasible(sampler, seed, judged_before) for seed in range(SEEDS)]
    assert fmean(found) > fmean(chance)


def test_gp_leaves_the_part_of_the_space_that_cannot_be_trained_before_it_has_any_value():
    sampler = GaussianSampler(document(SPACE, sampler="gp").space, "maximize", 0.0)
    corners = ((0.9, 0.9), (0.8, 0.6), (0.5, 0.9), (0.9, 0.4), (0.6, 0.6))
    values = [dict(zip(SPACE, corner, strict=True)) for corner in corners]
    sampler.hear(judged_before(number, one) for number, one in enumerate(values))
    found = [sampler.propose((), seed) for seed in range(20)]
    sizes = [trained(0, one or {}).margin or 0.0 for one in found]
    assert max(sizes) < min(trained(0, one).margin or 0.0 for one in values)
    assert len({str(one) for one in found}) == 20


def test_what_was_not_trained_is_no_bar_for_others():
    untrained = TrialFacts(0, "pruned", {}, violation=0.5)
    assert role(untrained) == "infeasible"
    assert not counts(untrained)
    assert standing_of(untrained) == Standing.INFEASIBLE


def test_what_violates_least_stands_before_what_violates_more_and_both_behind_what_is_pruned():
    history = History("maximize")
    ledger = Ledger(
        TrialFacts(0, "failed", {}, error_kind="diverged"),
        TrialFacts(1, "completed", {}, ((0, 0.9),), 0.9, violation=2.0),
        TrialFacts(2, "completed", {}, ((0, 0.8),), 0.8, violation=0.1),
        TrialFacts(3, "pruned", {}, ((0, 0.1),)),
        TrialFacts(4, "completed", {}, ((0, 0.2),), 0.2),
    )
    history.apply(ledger.read(1, None))
    assert [rank[-1] for rank in history._ranks] == [4, 3, 2, 1, 0]  # pyright: ignore[reportPrivateUsage] - the order itself


def test_a_good_trial_that_violates_a_constraint_is_no_bar_for_others():
    bad = TrialFacts(0, "completed", {}, ((0, 0.9),), 0.9, violation=0.5)
    history = History("maximize")
    history.apply(Ledger(bad).read(1, None))
    assert history.values_at(0, None) == []
    assert not counts(bad)
    assert standing_of(bad) == Standing.INFEASIBLE


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_where_all_violate_by_different_shares_a_search_goes_on_from_the_least(sampler: str):
    history = History("maximize")
    far = [TrialFacts(n, "completed", {}, (), 0.5, violation=1.0 + n) for n in range(3)]
    history.apply(Ledger(*far).read(1, None))
    assert not history.has_only_infeasible
