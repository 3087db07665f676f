"""The sampler `gp` of two objectives: how much of the front it finds. Nothing trains here."""

from collections.abc import Mapping

import numpy as np
import pytest

from service.domain.facts import TrialFacts
from service.sampling.model.hypervolume import front_of, hypervolume
from service.sampling.pareto import ParetoSampler
from service.sampling.prior import halton
from trimtab.contract.search_space import Dimension, FloatRange, Scalar

SPACE: dict[str, Dimension] = {
    name: FloatRange(kind="float", low=0.0, high=1.0) for name in ("x", "y", "z")
}
WORST = np.array([-1.1, -11.0])
"""The reference point of the areas, in values of which more is better."""
TRIALS, BEGUN, SEEDS = 40, 10, 10


def zdt1(values: Mapping[str, Scalar]) -> tuple[float, float]:
    """Return both objectives of ZDT1, less of each being better (Zitzler, Deb & Thiele, 2000)."""
    x, *others = (float(values[name] or 0) for name in SPACE)
    g = 1 + 9 * sum(others) / len(others)
    return x, g * (1 - (x / g) ** 0.5)


def completed(number: int, values: Mapping[str, Scalar]) -> TrialFacts:
    first, second = zdt1(values)
    return TrialFacts(number, "completed", values, ((0, first),), first, second_value=second)


def area(points: list[Mapping[str, Scalar]]) -> float:
    values = -np.array([zdt1(point) for point in points])
    return hypervolume(front_of(values), WORST)


def searched(seed: int) -> list[Mapping[str, Scalar]]:
    sampler = ParetoSampler(SPACE, ("minimize", "minimize"), prior_strength=0.0)
    found: list[Mapping[str, Scalar]] = []
    for number in range(TRIALS):
        proposed = sampler.propose((), 1000 * seed + number) if number >= BEGUN else None
        found.append(proposed or halton(SPACE, seed, number))
        sampler.hear([completed(number, found[-1])])
    return found


def drawn(seed: int) -> list[Mapping[str, Scalar]]:
    chance = np.random.default_rng(seed)
    return [dict(zip(SPACE, map(float, chance.random(3)), strict=True)) for _ in range(TRIALS)]


def test_its_front_dominates_more_than_that_of_chance_on_zdt1():
    for seed in range(SEEDS):
        assert area(searched(seed)) > area(drawn(seed))


def told(count: int = 12) -> ParetoSampler:
    sampler = ParetoSampler(SPACE, ("minimize", "minimize"), prior_strength=0.0)
    sampler.hear([completed(number, halton(SPACE, 0, number)) for number in range(count)])
    return sampler


def test_a_point_in_flight_is_not_proposed_again():
    first = told().propose((), 7)
    assert first is not None
    second = told().propose((first,), 7)
    assert second is not None
    assert max(abs(float(first[n] or 0) - float(second[n] or 0)) for n in SPACE) > 0.01


@pytest.mark.parametrize("state", ["pruned", "running", "failed"])
def test_a_trial_without_its_second_value_is_no_point_of_the_front(state: str):
    sampler = told()
    half = TrialFacts(12, state, {"x": 0.5, "y": 0.0, "z": 0.0}, ((0, -99.0),))  # pyright: ignore[reportArgumentType] - parametrized
    sampler.hear([half])
    assert sampler.propose((), 3) is not None
