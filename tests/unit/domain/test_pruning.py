import math
import random
import warnings
from functools import partial

import numpy as np
import optuna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.trial import TrialState

from service.domain.facts import Curve
from service.domain.pruning import apart, median, percentile, plateau, threshold
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


def _by_optuna(
    pruner: optuna.pruners.BasePruner, curve: Curve, peers: list[Curve], direction: Direction
) -> bool:
    study = optuna.create_study(direction=direction)
    for peer in peers:
        study.add_trial(optuna.create_trial(value=0.0, intermediate_values=_intermediate(peer)))
    running = optuna.create_trial(
        state=TrialState.RUNNING, intermediate_values=_intermediate(curve)
    )
    return bool(pruner.prune(study, running))


def _optuna_prunes(
    curve: Curve,
    peers: list[Curve],
    startup: int,
    warmup: int,
    direction: Direction,
    least: int = 1,
) -> bool:
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=startup, n_warmup_steps=warmup, n_min_trials=least
    )
    return _by_optuna(pruner, curve, peers, direction)


def _at_last(curve: Curve, peers: list[Curve]) -> list[float]:
    last = curve[-1][0] if curve else 0
    at_last = [dict(peer).get(last) for peer in peers]
    return sorted(value for value in at_last if value is not None)


def _ours_prunes(
    curve: Curve,
    peers: list[Curve],
    startup: int,
    warmup: int,
    direction: Direction,
    least: int = 1,
) -> bool:
    found = median(
        curve,
        _at_last(curve, peers),
        len(peers),
        direction=direction,
        startup_trials=startup,
        warmup_epochs=warmup,
        min_trials=least,
    )
    return found is not None


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


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@given(
    CURVES,
    st.lists(CURVES, max_size=8),
    st.sampled_from([0.0, 25.0, 50.0, 100.0]) | st.floats(0, 100),
    st.integers(0, 4),
    DIRECTIONS,
)
def test_the_verdict_is_that_of_optunas_percentile_pruner(
    curve: Curve, peers: list[Curve], kept: float, warmup: int, direction: Direction
):
    assume(not curve or curve[-1][1] is not None)
    ours = percentile(
        curve,
        _at_last(curve, peers),
        len(peers),
        kept=kept,
        direction=direction,
        startup_trials=2,
        warmup_epochs=warmup,
    )
    theirs = optuna.pruners.PercentilePruner(kept, n_startup_trials=2, n_warmup_steps=warmup)
    assert (ours is not None) == _by_optuna(theirs, curve, peers, direction)


@given(CURVES, st.lists(CURVES, max_size=8), DIRECTIONS)
def test_the_best_half_is_the_median(curve: Curve, peers: list[Curve], direction: Direction):
    said = (curve, _at_last(curve, peers), len(peers))
    half, middle = (
        rule(*said, direction=direction, startup_trials=1, warmup_epochs=1, min_trials=2)
        for rule in (partial(percentile, kept=50.0), median)
    )
    assert (half is None) == (middle is None)


def test_a_trial_on_numpys_percentile_goes_on_to_the_last_bit():
    rng = random.Random(0)
    for _ in range(200):
        peers = sorted(rng.random() for _ in range(rng.randint(2, 9)))
        kept = rng.uniform(0, 100)
        shares: dict[Direction, float] = {"maximize": 100 - kept, "minimize": kept}
        for direction, share in shares.items():
            bound = float(np.percentile(peers, share))
            assert not percentile(
                ((0, bound),),
                peers,
                9,
                kept=kept,
                direction=direction,
                startup_trials=1,
                warmup_epochs=0,
            )


def test_nobody_is_pruned_where_fewer_have_a_value_to_be_compared_with():
    rule = partial(higher, ((0, 0.1),), [0.3, 0.5], 9, startup_trials=1, warmup_epochs=0)
    assert rule(min_trials=2)
    assert not rule(min_trials=3)


def test_a_trial_has_to_reach_what_the_best_quarter_reached():
    best = partial(percentile, kept=25.0, startup_trials=1, warmup_epochs=0)
    peers = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert best(((0, 0.39),), peers, 5, direction="maximize")
    assert not best(((0, 0.4),), peers, 5, direction="maximize")
    assert best(((0, 0.21),), peers, 5, direction="minimize")
    assert not best(((0, 0.2),), peers, 5, direction="minimize")


BOUND = st.none() | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-1e6, 1e6, allow_nan=False)


@given(CURVES, BOUND, BOUND, st.integers(0, 4), DIRECTIONS)
def test_the_verdict_is_that_of_optunas_threshold_pruner(
    curve: Curve, lower: float | None, upper: float | None, warmup: int, direction: Direction
):
    assume(lower is not None or upper is not None)
    assume(lower is None or upper is None or lower <= upper)
    assume(not curve or curve[-1][1] is not None)
    theirs = optuna.pruners.ThresholdPruner(lower, upper, n_warmup_steps=warmup)
    ours = threshold(curve, lower=lower, upper=upper, warmup_epochs=warmup)
    assert (ours is not None) == _by_optuna(theirs, curve, [], direction)


def test_a_value_on_its_threshold_goes_on():
    within = partial(threshold, lower=0.2, upper=0.8, warmup_epochs=1)
    for value in (0.2, 0.8):
        assert not within(((1, value),))
    for value in (0.19, 0.81):
        assert within(((1, value),))
        assert not within(((0, value),))


def test_one_threshold_alone_bounds_one_side():
    assert not threshold(((0, 9.0),), lower=0.2, upper=None, warmup_epochs=0)
    assert not threshold(((0, -9.0),), lower=None, upper=0.8, warmup_epochs=0)
    assert threshold(((0, -9.0),), lower=0.2, upper=None, warmup_epochs=0)
    assert threshold(((0, 9.0),), lower=None, upper=0.8, warmup_epochs=0)


@given(
    CURVES,
    st.integers(1, 4),
    st.sampled_from([0.0, 0.5]) | st.floats(0, 1e6),
    DIRECTIONS,
)
def test_the_verdict_is_that_of_optunas_patient_pruner(
    curve: Curve, patience: int, min_delta: float, direction: Direction
):
    assume(not curve or curve[-1][1] is not None)
    ours = plateau(
        curve, patience=patience, min_delta=min_delta, warmup_epochs=0, direction=direction
    )
    with warnings.catch_warnings():  # numpy's, of values that are all NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        theirs = optuna.pruners.PatientPruner(None, patience, min_delta)
        assert (ours is not None) == _by_optuna(theirs, curve, [], direction)


def test_a_plateau_is_one_more_epoch_than_its_patience_below_the_best_before():
    rule = partial(plateau, patience=2, min_delta=0.0, warmup_epochs=0, direction="maximize")
    assert not rule(((0, 0.5), (1, 0.4), (2, 0.4)))
    assert rule(((0, 0.5), (1, 0.4), (2, 0.4), (3, 0.4)))
    assert not rule(((0, 0.5), (1, 0.4), (2, 0.5), (3, 0.4)))


def test_values_that_fall_short_by_little_are_no_plateau():
    rule = partial(plateau, patience=1, warmup_epochs=0, direction="minimize")
    curve = ((0, 0.5), (1, 0.75), (2, 0.75))
    assert rule(curve, min_delta=0.125)
    assert not rule(curve, min_delta=0.25)


def test_a_plateau_in_the_warm_up_goes_on():
    rule = partial(plateau, patience=1, min_delta=0.0, direction="maximize")
    curve = ((0, 0.5), (1, 0.4), (2, 0.4))
    assert rule(curve, warmup_epochs=2)
    assert not rule(curve, warmup_epochs=3)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_under_every_rule_a_last_value_that_is_not_finite_prunes_at_once(direction: Direction):
    curve = ((0, 0.5), (1, None))
    late = {"warmup_epochs": 9}
    for found in (
        percentile(curve, [], 0, kept=25.0, direction=direction, startup_trials=9, **late),
        threshold(curve, lower=0.0, upper=None, **late),
        plateau(curve, patience=9, min_delta=0.0, direction=direction, **late),
    ):
        assert found is not None
        assert (found.rule, found.epoch) == ("not_finite", 2)
        assert found.text == "Its value after 2 epochs is not a finite number."


class TestReasons:
    def test_the_median_is_told_with_both_numbers_and_how_many_it_is_of(self):
        found = higher(
            ((0, 0.7), (7, 0.71)), [0.7, 0.78, 0.9], 12, startup_trials=1, warmup_epochs=0
        )
        assert found is not None
        assert (found.rule, found.epoch, found.expected) == ("median", 8, None)
        assert found.text == (
            "Its best value 0.71 after 8 epochs is below the median 0.78 of 3 completed trials at that point."
        )

    def test_where_less_is_better_it_is_above(self):
        found = median(
            ((0, 0.9),), [0.5], 1, direction="minimize", startup_trials=1, warmup_epochs=0
        )
        assert found is not None
        assert "0.9 after 1 epoch is above the median 0.5 of 1 completed trial" in found.text

    def test_a_percentile_tells_the_share_that_was_to_be_reached(self):
        found = percentile(
            ((0, 0.1),),
            [0.2, 0.6],
            2,
            kept=25.0,
            direction="maximize",
            startup_trials=1,
            warmup_epochs=0,
        )
        assert found is not None
        assert found.rule == "percentile"
        assert (
            "0.1 after 1 epoch is below 0.5, which the best 25 % of 2 completed" in found.text
        )

    def test_a_threshold_tells_which_one_and_the_value(self):
        below = threshold(((4, 0.1),), lower=0.2, upper=0.8, warmup_epochs=0)
        above = threshold(((4, 0.9),), lower=0.2, upper=0.8, warmup_epochs=0)
        assert below is not None
        assert above is not None
        assert below.text == "Its value 0.1 after 5 epochs is below the lower threshold 0.2."
        assert above.text == "Its value 0.9 after 5 epochs is above the upper threshold 0.8."
        assert (below.rule, below.epoch) == ("threshold", 5)

    def test_a_plateau_tells_how_far_the_last_values_fell_short(self):
        curve = ((0, 0.5), (1, 0.25), (2, 0.375))
        found = plateau(curve, patience=1, min_delta=0.1, warmup_epochs=0, direction="maximize")
        assert found is not None
        assert found.text == (
            "The best of its last 2 values after 3 epochs, 0.375, is more than 0.1 below its best before, 0.5."
        )

    def test_numbers_have_the_digits_that_tell_them_apart(self):
        assert apart(0.71234, 0.78) == ("0.712", "0.78")
        assert apart(0.712341, 0.712349) == ("0.71234", "0.71235")
        assert apart(0.5, 0.5) == ("0.5", "0.5")
        near = math.nextafter(0.1, 1)
        assert apart(0.1, near) == (repr(0.1), repr(near))
