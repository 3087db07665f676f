"""What becomes of a search where a part of the space violates a constraint: nothing trains here, the samplers are real."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pytest

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Sampling
from service.sampling.history import History
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


def best_feasible(sampler: str, seed: int) -> float:
    study = document(SPACE, sampler=sampler, pruner="none", seed=seed)
    ledger = Ledger()
    sampling, found = Sampling(ledger.read, Clock()), [0.0]
    for number in range(TRIALS):
        with sampling.proposal(1, study, claim_id=str(number), next_number=number) as proposal:
            assert not isinstance(proposal, Exhausted)
        trial = trained(number, proposal.values)
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
