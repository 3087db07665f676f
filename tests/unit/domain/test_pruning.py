import math
from functools import partial

import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.trial import TrialState

from service.domain.facts import Curve
from service.domain.pruning import median
from trimtab.contract.metrics import Direction

VALUES = st.one_of(
    st.none(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(-1e6, 1e6, allow_nan=False)
)
DIRECTIONS = st.sampled_from(["maximize", "minimize"])
higher = partial(median, direction="maximize")
CURVES = st.dictionaries(st.integers(0, 6), VALUES, max_size=6).map(
    lambda found: tuple(sorted(found.items()))
)


def _intermediate(curve: Curve) -> dict[int, float]:
    return {step: math.nan if value is None else value for step, value in curve}


def _optuna_prunes(
    curve: Curve,
    peers: list[Curve],
    startup: int,
    warmup: int,
    direction: Direction,
    least: int = 1,
) -> bool:
    study = optuna.create_study(direction=direction)
    for peer in peers:
        study.add_trial(optuna.create_trial(value=0.0, intermediate_values=_intermediate(peer)))
    running = optuna.create_trial(
        state=TrialState.RUNNING, intermediate_values=_intermediate(curve)
    )
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=startup, n_warmup_steps=warmup, n_min_trials=least
    )
    return bool(pruner.prune(study, running))


def _ours_prunes(
    curve: Curve,
    peers: list[Curve],
    startup: int,
    warmup: int,
    direction: Direction,
    least: int = 1,
) -> bool:
    last = curve[-1][0] if curve else 0
    at_last = [dict(peer).get(last) for peer in peers]
    return median(
        curve,
        sorted(value for value in at_last if value is not None),
        len(peers),
        direction=direction,
        startup_trials=startup,
        warmup_epochs=warmup,
        min_trials=least,
    )


@pytest.fixture(autouse=True, scope="module")
def _quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # numpy, under Optuna
@given(CURVES, st.lists(CURVES, max_size=6), st.integers(1, 4), st.integers(0, 4), DIRECTIONS)
def test_the_verdict_is_that_of_optunas_median_pruner(
    curve: Curve, peers: list[Curve], startup: int, warmup: int, direction: Direction
):
    assume(not curve or curve[-1][1] is not None)
    assert _ours_prunes(curve, peers, startup, warmup, direction) == _optuna_prunes(
        curve, peers, startup, warmup, direction
    )


FINITE = st.dictionaries(st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0]), max_size=6).map(
    lambda found: tuple(sorted(found.items()))
)


@given(FINITE, st.lists(FINITE, max_size=6), st.integers(1, 4), DIRECTIONS)
def test_the_fewest_that_may_judge_are_those_of_optunas_median_pruner(
    curve: Curve, peers: list[Curve], least: int, direction: Direction
):
    # Optuna counts values that are not finite among them too.
    assert _ours_prunes(curve, peers, 1, 0, direction, least) == _optuna_prunes(
        curve, peers, 1, 0, direction, least
    )


@given(CURVES, st.lists(CURVES, max_size=6), st.integers(1, 4), st.integers(0, 4), DIRECTIONS)
def test_a_last_value_that_is_not_finite_prunes_at_once(
    curve: Curve, peers: list[Curve], startup: int, warmup: int, direction: Direction
):
    assert _ours_prunes((*curve, (7, None)), peers, startup, warmup, direction)


def test_a_trial_below_the_median_at_its_last_step_is_pruned():
    assert higher(((0, 0.1), (1, 0.4)), [0.3, 0.5, 0.6], 3, startup_trials=1, warmup_epochs=0)


def test_a_trial_whose_best_value_so_far_reaches_the_median_goes_on():
    assert not higher(
        ((0, 0.5), (1, 0.1)), [0.3, 0.5, 0.6], 3, startup_trials=1, warmup_epochs=0
    )


def test_where_less_is_better_a_trial_above_the_median_is_pruned():
    lower = partial(median, direction="minimize", startup_trials=1, warmup_epochs=0)
    assert lower(((0, 0.9), (1, 0.7)), [0.3, 0.5, 0.6], 3)
    assert not lower(((0, 0.5), (1, 0.9)), [0.3, 0.5, 0.6], 3)


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    assert higher(((0, 0.3),), [0.2, 0.6], 2, startup_trials=1, warmup_epochs=0)
    assert not higher(((0, 0.4),), [0.2, 0.6], 2, startup_trials=1, warmup_epochs=0)


def test_nobody_is_pruned_before_enough_trials_have_completed():
    assert not higher(((0, 0.1),), [0.3, 0.5], 2, startup_trials=3, warmup_epochs=0)
    assert higher(((0, 0.1),), [0.3, 0.5], 3, startup_trials=3, warmup_epochs=0)


def test_nobody_is_pruned_in_the_warm_up():
    assert not higher(((1, 0.1),), [0.3, 0.5], 9, startup_trials=1, warmup_epochs=2)
    assert higher(((2, 0.1),), [0.3, 0.5], 9, startup_trials=1, warmup_epochs=2)


def test_the_warm_up_counts_epochs_and_not_reports():
    assert higher(((2, 0.1),), [0.3, 0.5], 9, startup_trials=1, warmup_epochs=2)
    two = ((0, 0.1), (1, 0.1))
    assert not higher(two, [0.3, 0.5], 9, startup_trials=1, warmup_epochs=2)


def test_without_a_report_there_is_nothing_to_prune():
    assert not higher((), [], 9, startup_trials=1, warmup_epochs=0)
