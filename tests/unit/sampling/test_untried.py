import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.facts import TrialFacts
from service.sampling import Exhausted, Proposal, Sampling
from service.sampling.grid import Cells
from service.sampling.untried import Untried
from tests.unit.sampling.ledger import Clock, Ledger, completed, document, spaces
from trimtab.contract.search_space import Dimension, Scalar
from trimtab.contract.starts import Start
from trimtab.contract.studies import StudyDocument

Values = Mapping[str, Scalar]
CELLS = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adam"]},
    "frozen_stages": {"kind": "int", "low": 0, "high": 2},
}
"""Six cells."""
SPACE = document(CELLS).space
ALL = [Cells(SPACE).cell(number) or {} for number in range(6)]
by_any = pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])


@given(space=spaces())
def test_every_cell_has_an_index_of_its_own(space: dict[str, Dimension]):
    count = Cells(space).count
    for number in range(min(count or 0, 300)):
        values = Cells(space).cell(number)
        assert values is not None
        assert Cells(space).index(values) == number
    if count is not None:
        assert Cells(space).cell(count) is None


@given(
    tried=st.sets(st.integers(0, 5), max_size=5),
    flying=st.sets(st.integers(0, 5), max_size=2),
    wanted=st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
def test_the_first_candidate_that_is_untried_else_any_untried_cell(
    tried: set[int], flying: set[int], wanted: list[int]
):
    untried = Untried(SPACE)
    untried.learn([completed(n, ALL[cell], 0.5) for n, cell in enumerate(tried)])
    found = untried.first([ALL[n] for n in wanted], untried.tried(ALL[n] for n in flying), 1)
    left = set(range(6)) - tried - flying
    if not left:
        assert found is None
        return
    assert found is not None
    expected = next((n for n in wanted if n in left), None)
    if expected is None:
        assert Cells(SPACE).index(found) in left
    else:
        assert found == ALL[expected]


def test_untried_cells_are_drawn_alike():
    untried = Untried(SPACE)
    untried.learn([completed(n, ALL[n], 0.5) for n in (0, 3)])
    drawn = Counter(
        Cells(SPACE).index(untried.first([ALL[0]], untried.tried(), seed) or {})
        for seed in range(4000)
    )
    assert drawn.keys() == {1, 2, 4, 5}
    assert all(900 < count < 1100 for count in drawn.values())


@pytest.mark.parametrize(
    ("state", "kind", "counts"),
    [
        ("queued", None, True),
        ("running", None, True),
        ("paused", None, True),
        ("pruned", None, True),
        ("failed", "diverged", True),
        ("failed", "oom", True),
        ("failed", "crashed", False),
        ("cancelled", None, False),
    ],
)
def test_a_cell_is_tried_as_long_as_a_trial_may_teach_something(
    state: Any, kind: Any, counts: bool
):
    untried = Untried(SPACE)
    untried.learn([TrialFacts(0, "running", ALL[0])])
    untried.learn([TrialFacts(0, state, ALL[0], error_kind=kind)])
    assert (untried.first([ALL[0]], untried.tried(), 0) != ALL[0]) is counts


def test_trials_of_another_space_have_tried_nothing():
    untried = Untried(SPACE)
    untried.learn([completed(0, {"optimizer": "sgd"}, 0.5)])
    untried.learn([completed(1, {**ALL[0], "frozen_stages": 9}, 0.5)])
    assert untried.first([ALL[0]], untried.tried(), 0) == ALL[0]


def _search(
    study: StudyDocument, trials: int, **states: Any
) -> tuple[list[Values], Exhausted | None]:
    """Run a study; tell what was proposed, and how it ended."""
    ledger = Ledger()
    sampling = Sampling(ledger.read, Clock())
    found: list[Values] = []
    for number in range(trials):
        with sampling.proposal(1, study, claim_id=str(number), next_number=number) as proposal:
            if isinstance(proposal, Exhausted):
                return found, proposal
        found.append(proposal.values)
        ledger.commit(completed(number, proposal.values, random.Random(number).random()))
        sampling.touch(1)
    return found, None


@by_any
@pytest.mark.parametrize("starts", [None, ()])
def test_a_search_tries_every_cell_once_and_ends(sampler: str, starts: Any):
    study = document(CELLS, sampler=sampler).model_copy(update={"starts": starts})
    found, end = _search(study, 20)
    assert sorted(Cells(SPACE).index(values) or 0 for values in found) == list(range(6))
    assert end == Exhausted(6)


@by_any
def test_a_space_of_one_point_is_repeated(sampler: str):
    study = document({"optimizer": {"kind": "choices", "choices": ["sgd"]}}, sampler=sampler)
    found, end = _search(study.model_copy(update={"starts": ()}), 20)
    assert (len(found), end) == (20, None)


@by_any
def test_a_persons_first_trials_may_repeat_and_known_recipes_do_not(sampler: str):
    study = document(CELLS, sampler=sampler, initial_trials=4).model_copy(
        update={
            "first_trials": (ALL[2], ALL[2]),
            "starts": (Start(values=ALL[2], proposed_by="known_recipe:plain"),),
        }
    )
    found, end = _search(study, 20)
    cells = [Cells(SPACE).index(values) or 0 for values in found]
    assert cells[:2] == [2, 2]
    assert sorted(cells[2:]) == [0, 1, 3, 4, 5]
    assert end == Exhausted(7)


@by_any
def test_the_end_counts_what_is_in_flight(sampler: str):
    study = document(CELLS, sampler=sampler)
    trials = [completed(n, ALL[n], 0.1 * n) for n in range(5)]
    sampling = Sampling(Ledger(*trials).read, Clock())
    with sampling.proposal(1, study, claim_id="a", next_number=5) as last:
        assert isinstance(last, Proposal)
        assert last.values == ALL[5]
        with sampling.proposal(1, study, claim_id="b", next_number=5) as none:
            assert none == Exhausted(6)


@by_any
def test_a_cell_whose_trial_crashed_is_tried_again(sampler: str):
    study = document(CELLS, sampler=sampler)
    trials = [completed(n, ALL[n], 0.1 * n) for n in range(5)]
    crashed = TrialFacts(5, "failed", ALL[5], error_kind="crashed")
    sampling = Sampling(Ledger(*trials, crashed).read, Clock())
    with sampling.proposal(1, study, claim_id="a", next_number=6) as again:
        assert isinstance(again, Proposal)
        assert again.values == ALL[5]


def test_random_search_over_real_numbers_reads_no_history():
    sampling = Sampling(Ledger().read, Clock())
    assert sampling.is_immediate(1, document(sampler="random"))
    assert not sampling.is_immediate(2, document(CELLS, sampler="random"))
    assert not sampling.is_immediate(3, document())
