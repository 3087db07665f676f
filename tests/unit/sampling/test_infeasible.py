"""What becomes of a search in which a part of the space cannot be trained: nothing trains here, the sampler is the real one."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Sampling
from tests.unit.sampling.ledger import Clock, Ledger, document
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import StudyDocument
from trimtab.contract.trials import FailureKind

RATES = {"learning_rate": {"kind": "float", "low": 1e-4, "high": 10.0, "log": True}}
TRIALS = 60
NEWEST = 42


def _search(
    kind: FailureKind, diverges_above: float, *, space: Mapping[str, Any] = RATES, **search: Any
) -> list[bool]:
    """Run a study whose loss is least at half a decade below where training diverges; tell which trials did."""
    study = document(space, objective="loss", **search)
    ledger = Ledger()
    sampling = Sampling(ledger.read, Clock())
    diverged: list[bool] = []
    for number in range(TRIALS):
        with sampling.proposal(1, study, claim_id=str(number), next_number=number) as proposal:
            if isinstance(proposal, Exhausted):
                break
        ledger.commit(_trained(number, proposal.values, kind, diverges_above))
        diverged.append(float(proposal.values["learning_rate"] or 0) > diverges_above)
    return diverged


def _trained(
    number: int, values: Mapping[str, Scalar], kind: FailureKind, diverges_above: float
) -> TrialFacts:
    rate = float(values["learning_rate"] or 0)
    if rate > diverges_above:
        return TrialFacts(number, "failed", values, error_kind=kind)
    loss = abs(math.log10(rate) - math.log10(diverges_above) + 0.5)
    return TrialFacts(number, "completed", values, ((0, loss),), loss)


@pytest.mark.parametrize("seed", range(4))
def test_tpe_keeps_away_from_where_training_diverges(seed: int):
    diverged = sum(_search("diverged", 0.1, seed=seed)[-NEWEST:])
    unheard = sum(_search("crashed", 0.1, seed=seed)[-NEWEST:])
    assert diverged <= NEWEST / 3
    assert unheard >= 0.9 * NEWEST


@pytest.mark.parametrize("seed", range(4))
def test_the_gaussian_process_keeps_away_from_it_too(seed: int):
    diverged = _search("diverged", 0.1, seed=seed, sampler="gp")
    assert sum(diverged[-NEWEST:]) <= NEWEST / 6


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_where_nothing_has_trained_as_yet_proposals_are_spread_over_the_whole_space(
    sampler: str,
):
    def proposals(sampler: str) -> list[Mapping[str, Scalar]]:
        study = document(RATES, objective="loss", sampler=sampler)
        failed = [
            TrialFacts(number, "failed", {"learning_rate": 5.0}, error_kind="diverged")
            for number in range(20)
        ]
        sampling = Sampling(Ledger(*failed).read, Clock())
        return [_proposed(sampling, study, claim) for claim in "abcdef"]

    assert proposals(sampler) == proposals("random")


def test_random_search_and_a_grid_go_on_as_they_would():
    for kind in ("diverged", "crashed"):
        assert _search(kind, 0.1, sampler="random") == _search("oom", 0.1, sampler="random")
    rates = [1e-3, 1e-2, 1.0, 10.0]
    grid = {"learning_rate": {"kind": "choices", "choices": rates}}
    assert _search("diverged", 0.1, space=grid, sampler="grid") == [False, False, True, True]


def test_a_capped_history_keeps_the_good_ones_among_hundreds_that_diverged():
    study = document(RATES, objective="loss")
    rates = [10 ** (number / 300 - 4) for number in range(1500)]
    trials = [
        _trained(number, {"learning_rate": rate}, "diverged", 3e-4)
        for number, rate in enumerate(rates)
    ]
    sampling = Sampling(Ledger(*trials).read, Clock(), largest_shown=500)
    found = [_proposed(sampling, study, claim)["learning_rate"] for claim in "abcdefghij"]
    assert sum(float(rate or 0) > 3e-4 for rate in found) <= 3


def _proposed(sampling: Sampling, study: StudyDocument, claim_id: str) -> Mapping[str, Scalar]:
    with sampling.proposal(1, study, claim_id=claim_id, next_number=1500) as proposal:
        assert not isinstance(proposal, Exhausted)
        return proposal.values
