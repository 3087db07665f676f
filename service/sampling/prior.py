"""Priors of dimensions: which value lies at which share of its prior, and numbers that spread evenly over shares."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from statistics import NormalDist

from trimtab.contract.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    nearest,
)

DIGITS_END_AT = 2.0**-20
"""The size of a cell that a random offset fills in place of further digits."""


def point_at(
    space: Mapping[str, Dimension], seed: int | None, number: int
) -> dict[str, Scalar]:
    """Return the point of the prior that trial `number` gets: points of neighbouring numbers lie apart."""
    shares = halton(space, seed, number)
    return {name: value_at(space[name], shares[name]) for name in shares}


def value_at(dimension: Dimension, share: float) -> Scalar:
    """Return the value below which `share` of the dimension's prior lies (the inverse of its distribution function).

    Args:
        dimension: The dimension; without a prior all of it is alike, a log range in its logarithm.
        share: A number above 0 and below 1.
    """
    match dimension:
        case Choices():
            return _choice_at(dimension, share)
        case IntRange() | FloatRange(step=float()):
            # Each point has the cell around it, so that the outer ones are not drawn half as often.
            half = (dimension.step or 0) / 2
            low, high = dimension.low - half, dimension.high + half
            return nearest(dimension, _real_at(dimension, low, high, share))
        case FloatRange():
            return nearest(dimension, _real_at(dimension, dimension.low, dimension.high, share))


def _choice_at(dimension: Choices, share: float) -> Scalar:
    choices = dimension.choices
    if dimension.prior is None:
        return choices[min(int(share * len(choices)), len(choices) - 1)]
    others = [choice for choice in choices if choice != dimension.prior]
    if share < 0.5 or not others:
        return dimension.prior
    return others[min(int((2 * share - 1) * len(others)), len(others) - 1)]


def _real_at(dimension: FloatRange | IntRange, low: float, high: float, share: float) -> float:
    if dimension.low == dimension.high:
        return dimension.low
    if not dimension.log:
        spread = dimension.prior_spread or (dimension.high - dimension.low) / 6
        return _normal_at(low, high, dimension.prior, spread, share)
    width = math.log(dimension.high) - math.log(dimension.low)
    given = dimension.prior_spread
    spread = width / 6 if given is None else given * math.log(10)
    centre = None if dimension.prior is None else math.log(dimension.prior)
    return math.exp(_normal_at(math.log(low), math.log(high), centre, spread, share))


def _normal_at(
    low: float, high: float, centre: float | None, spread: float, share: float
) -> float:
    """Invert a normal distribution that is cut off at `low` and `high`; without a centre the even one."""
    if centre is None or spread == 0:
        return low + share * (high - low)
    normal = NormalDist(centre, spread)
    below, up_to = normal.cdf(low), normal.cdf(high)
    found = below + share * (up_to - below)
    return normal.inv_cdf(min(max(found, math.ulp(0.0)), 1 - math.ulp(0.5)))


def halton(names: Iterable[str], seed: int | None, number: int) -> dict[str, float]:
    """Return point `number` of a scrambled Halton sequence: for each name a share above 0 and below 1.

    The points of successive numbers spread evenly over the cube (Halton 1960; each digit permuted at random as in Owen,
    A randomized Halton algorithm in R, 2017, https://arxiv.org/abs/1706.02808).

    Args:
        names: The dimensions.
        seed: The seed of the permutations.
        number: The point's number, from 0.
    """
    ordered = sorted(names)
    primes = islice(_primes(), len(ordered))
    return {
        name: _inverse(number, prime, generator(seed, name))
        for name, prime in zip(ordered, primes, strict=True)
    }


def generator(seed: int | None, name: str) -> random.Random:
    """Return random numbers of a dimension's own: they stay the same when others are added."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - draws hyperparameters, not secrets


def _inverse(number: int, prime: int, rng: random.Random) -> float:
    """Mirror the digits of `number` at the point, each permuted."""
    share, cell = 0.0, 1.0
    while cell > DIGITS_END_AT:
        number, digit = divmod(number, prime)
        cell /= prime
        share += cell * rng.sample(range(prime), prime)[digit]
    return share + cell * rng.uniform(0.25, 0.75)


def _primes() -> Iterator[int]:
    found: list[int] = []
    for candidate in count(2):
        if all(candidate % prime for prime in found):
            found.append(candidate)
            yield candidate
