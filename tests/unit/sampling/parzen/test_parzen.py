"""TPE in arrays against Optuna's own estimators: the same densities, the same points for the same random numbers."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

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
from service.sampling.parzen.axes import Axes, Points
from service.sampling.parzen.mixture import Mixture, weights_of
from tests.unit.sampling.ledger import any_values, spaces
from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
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
    ends = {n: [one.low, one.high] for n, one in space.items() if not isinstance(one, Choices)}
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
