"""TPE in arrays against Optuna's own estimators: the same densities, the same points for the same random numbers."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from numpy.typing import NDArray
from optuna.samplers._tpe.parzen_estimator import (
    _ParzenEstimator,  # pyright: ignore[reportPrivateUsage] -- what ours must agree with
    _ParzenEstimatorParameters,  # pyright: ignore[reportPrivateUsage]
)
from optuna.samplers._tpe.sampler import default_weights

from service.sampling.distributions import distributions
from service.sampling.parzen import TPE, Split
from service.sampling.parzen.axes import Axes, Points
from service.sampling.parzen.estimator import CANDIDATES
from service.sampling.parzen.mixture import Mixture, weights_of
from service.sampling.parzen.truncated import log_mass_of_cells
from tests.unit.sampling.ledger import any_values, spaces
from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    contains,
    is_too_narrow,
)

Values = Mapping[str, Scalar]
DEFAULTS = _ParzenEstimatorParameters(
    prior_weight=1.0,
    consider_magic_clip=True,
    consider_endpoints=False,
    weights=default_weights,
    multivariate=True,
)


class Optunas:
    """One of Optuna's estimators over the same trials."""

    def __init__(self, space: Mapping[str, Dimension], trials: Sequence[Values]) -> None:
        joint = {n: one for n, one in distributions(space).items() if not one.single()}
        self.joint = joint
        self._estimator = _ParzenEstimator(self.internal(trials), joint, DEFAULTS)

    def internal(self, trials: Sequence[Values]) -> dict[str, NDArray[Any]]:
        return {
            name: np.asarray([one.to_internal_repr(trial[name]) for trial in trials], float)
            for name, one in self.joint.items()
        }

    def log_density(self, points: Sequence[Values]) -> NDArray[np.float64]:
        return self._estimator.log_pdf(self.internal(points))

    def sample(self, seed: int, count: int) -> list[dict[str, Scalar]]:
        found = self._estimator.sample(RandomState(seed), count)
        return [
            {
                name: one.to_external_repr(found[name][n].item())
                for name, one in self.joint.items()
            }
            for n in range(count)
        ]


def _drawn(space: Mapping[str, Dimension], rng: random.Random, count: int) -> list[Values]:
    """Trials some of which have values in common, also those at the bounds."""
    pool = [any_values(space, rng) for _ in range(rng.randint(1, 3))]
    # Not the far end of steps: adding steps up comes to another last digit, and so to another order of equals.
    ends = {
        name: [one.low, one.high]
        for name, one in space.items()
        if isinstance(one, FloatRange) and one.step is None
    }
    return [
        {
            name: rng.choice(
                [value, value, rng.choice(pool)[name], rng.choice(ends.get(name, [value]))]
            )
            for name, value in any_values(space, rng).items()
        }
        for _ in range(count)
    ]


def _points(axes: Axes, values: Sequence[Values]) -> Points:
    return axes.points(*axes.encoded(values))


def _mixture(axes: Axes, trials: Sequence[Values]) -> Mixture:
    mixture = Mixture(axes)
    numbers, picks = axes.encoded(trials)
    mixture.show(np.arange(len(trials)), axes.ranges.shares(numbers).T, picks.T)
    return mixture


@settings(max_examples=200)
@given(
    space=spaces(),
    rng=st.integers(0, 10**6).map(random.Random),
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 130)),
)
def test_the_ratio_of_the_densities_is_optunas(
    space: dict[str, Dimension], rng: random.Random, sizes: tuple[int, int]
):
    assume(not any(is_too_narrow(one) for one in space.values()))
    assume(not all(one.single() for one in distributions(space).values()))
    good, others = (_drawn(space, rng, size) for size in sizes)
    points = [any_values(space, rng) for _ in range(10)] + good[:5] + others[:5]
    axes = Axes(distributions(space))
    ours = [_mixture(axes, some).log_density(_points(axes, points)) for some in (good, others)]
    theirs = [Optunas(space, some).log_density(points) for some in (good, others)]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one - _log_volume(space), other, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours[0] - ours[1], theirs[0] - theirs[1], rtol=0, atol=1e-9)


def _log_volume(space: Mapping[str, Dimension]) -> float:
    """The logarithm of the size of the ranges without steps: our density has each of them as wide as 1."""
    ranges = [
        one
        for one in space.values()
        if isinstance(one, FloatRange) and one.step is None and one.low < one.high
    ]
    return sum(
        math.log(math.log(one.high) - math.log(one.low) if one.log else one.high - one.low)
        for one in ranges
    )


@pytest.mark.parametrize("count", [0, 1, 2, 24, 25, 26, 100, 500])
def test_weights_are_optunas(count: int):
    theirs = np.append(default_weights(count), 1.0)
    np.testing.assert_allclose(weights_of(count), theirs / theirs.sum(), rtol=1e-15)


@settings(max_examples=100)
@given(space=spaces(), rng=st.integers(0, 10**6).map(random.Random), size=st.integers(0, 40))
def test_the_same_random_numbers_give_the_same_points(
    space: dict[str, Dimension], rng: random.Random, size: int
):
    assume(not any(is_too_narrow(one) for one in space.values()))
    assume(not all(one.single() for one in distributions(space).values()))
    trials = _drawn(space, rng, size)
    axes, theirs = Axes(distributions(space)), Optunas(space, trials)
    drawn = _mixture(axes, trials).sample(RandomState(7), 24)
    for row, expected in enumerate(theirs.sample(7, 24)):
        found = axes.decoded(drawn.values[row], drawn.picks[row])
        for name, value in expected.items():
            one = space[name]
            assert contains(one, found[name])
            if isinstance(one, FloatRange):
                low, high = (
                    (math.log(one.low), math.log(one.high)) if one.log else (one.low, one.high)
                )
                a, b = (
                    math.log(float(v or 0)) if one.log else float(v or 0)
                    for v in (found[name], value)
                )
                assert abs(a - b) <= 1e-6 * (high - low)
            else:
                assert found[name] == value


@settings(max_examples=60)
@given(space=spaces(), rng=st.integers(0, 10**6).map(random.Random), steps=st.integers(1, 30))
def test_what_is_kept_from_one_proposal_to_the_next_is_what_would_be_made_anew(
    space: dict[str, Dimension], rng: random.Random, steps: int
):
    axes, trials = Axes(distributions(space)), dict[int, Values]()
    kept = Mixture(axes)
    for _ in range(steps):
        for number in rng.sample(range(150), rng.choice((1, 1, 20))):
            if trials.pop(number, None) is None:
                trials[number] = _drawn(space, rng, 1)[0]
        numbers = sorted(trials)
        shown = [trials[number] for number in numbers]
        values, picks = axes.encoded(shown)
        kept.show(np.array(numbers, np.int64), axes.ranges.shares(values).T, picks.T)
        points = _points(axes, _drawn(space, rng, 3))
        fresh = _mixture(axes, shown).log_density(points)
        np.testing.assert_allclose(kept.log_density(points), fresh, rtol=0, atol=1e-12)


def test_a_range_of_more_points_than_a_table_holds_is_computed_alike():
    rng = random.Random(0)
    space: dict[str, Dimension] = {
        "steps": IntRange(kind="int", low=1, high=5000),
        "log": IntRange(kind="int", low=1, high=5000, log=True),
    }
    trials, points = (_drawn(space, rng, count) for count in (60, 20))
    axes = Axes(distributions(space))
    found = _mixture(axes, trials).log_density(_points(axes, points))
    np.testing.assert_allclose(found, Optunas(space, trials).log_density(points), atol=1e-9)


def test_far_out_in_the_right_tail_cells_have_the_mass_of_the_left_one():
    begin = np.array([3.0, 9.0, 20.0, 37.0])
    right = log_mass_of_cells(begin, begin + 0.5)
    left = log_mass_of_cells(-begin - 0.5, -begin)
    np.testing.assert_array_equal(right, left)
    # R: pnorm(-3) - pnorm(-3.5); log of pnorm(-20) for the third, whose end weighs nothing.
    assert math.exp(right[0]) == pytest.approx(0.0011172689, rel=1e-6)
    assert right[2] == pytest.approx(-203.9172, abs=1e-3)


class TestTPE:
    SPACE: ClassVar[dict[str, Dimension]] = {
        "x": FloatRange(kind="float", low=0.0, high=1.0),
        "c": Choices(kind="choices", choices=("a", "b")),
    }

    def _tpe(
        self, trials: Sequence[Values], good: Sequence[int], flying: Sequence[Values] = ()
    ):
        tpe = TPE(distributions(self.SPACE))
        others = [n for n in range(len(trials)) if n not in good]
        split = Split(np.array(good, np.int64), np.array(others, np.int64))
        tpe.show(split, lambda number: trials[number], flying)
        return tpe

    def _trials(self, count: int) -> list[Values]:
        rng = random.Random(1)
        return [any_values(self.SPACE, rng) for _ in range(count)]

    def test_candidates_come_best_first_and_the_best_is_the_largest_ratio(self):
        tpe = self._tpe(self._trials(40), range(4))
        found = list(tpe.candidates(3))
        scores = tpe.scores(_points(tpe.axes, found))
        assert len(found) == CANDIDATES
        assert list(scores) == sorted(scores, reverse=True)
        assert found == list(tpe.candidates(3)) != list(tpe.candidates(4))

    def test_a_proposal_in_flight_makes_its_place_less_likely_and_those_that_end_more_so(self):
        trials = self._trials(40)
        here = {"x": 0.5, "c": "a"}
        point = _points(Axes(distributions(self.SPACE)), [here])
        alone = self._tpe(trials, range(4)).scores(point)[0]
        flying = self._tpe(trials, range(4), [here] * 3).scores(point)[0]
        running = self._tpe([*trials, here, here, here], range(4)).scores(point)[0]
        assert flying < alone - 0.1
        assert flying == running

    def test_trials_of_another_space_are_left_out(self):
        trials = self._trials(20)
        strange: list[Values] = [{"x": 0.1}, {"x": 0.1, "c": "z"}, {"x": "low", "c": "a"}]
        point = _points(Axes(distributions(self.SPACE)), [{"x": 0.1, "c": "a"}])
        with_them = self._tpe([*trials, *strange], range(2)).scores(point)
        assert with_them == self._tpe(trials, range(2)).scores(point)

    def test_each_trial_is_asked_for_its_values_once(self):
        trials, asked = self._trials(30), list[int]()

        def values_of(number: int) -> Values:
            asked.append(number)
            return trials[number]

        tpe = TPE(distributions(self.SPACE))
        for count in (10, 20, 30):
            split = Split(np.arange(2), np.arange(2, count))
            tpe.show(split, values_of)
        assert sorted(asked) == list(range(30))

    def test_bounds_hold_where_a_logarithm_rounds_beyond(self):
        space: dict[str, Dimension] = {
            "x": FloatRange(kind="float", low=1e-5, high=0.3, log=True),
            "n": IntRange(kind="int", low=16, high=128, log=True),
        }
        ends = [{"x": x, "n": n} for x in (1e-5, 0.3) for n in (16, 128)]
        tpe = TPE(distributions(space))
        tpe.show(Split(np.arange(4), np.empty(0, np.int64)), lambda number: ends[number])
        for seed in range(50):
            for found in tpe.candidates(seed):
                assert all(contains(space[name], value) for name, value in found.items())
