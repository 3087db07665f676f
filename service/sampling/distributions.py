"""Dimensions of the contract as Optuna's distributions."""

from collections.abc import Mapping

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, Scalar

Distributions = Mapping[str, BaseDistribution]


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's word for one dimension; choices keep their types and their order."""
    match dimension:
        case FloatRange():
            return FloatDistribution(
                dimension.low, dimension.high, log=dimension.log, step=dimension.step
            )
        case IntRange():
            return IntDistribution(
                dimension.low, dimension.high, log=dimension.log, step=dimension.step
            )
        case Choices():
            return CategoricalDistribution(dimension.choices)


def distributions(space: Mapping[str, Dimension]) -> Distributions:
    """Return the distributions of a search space, ordered by name as Optuna orders them."""
    return {name: distribution(space[name]) for name in sorted(space)}


def stored(
    space: Mapping[str, Dimension], values: Mapping[str, Scalar]
) -> dict[str, tuple[float, str]]:
    """Return, for each name, the `param_value` and `distribution_json` of Optuna's table `trial_params`.

    Raises:
        ValueError: a value is no choice of its dimension or no number where one is due.
        KeyError: a value has a name that the space has not.
    """
    return internal({name: distribution(space[name]) for name in values}, values)


def internal(
    distributions: Distributions,
    values: Mapping[str, Scalar],
    jsons: Mapping[str, str] | None = None,
) -> dict[str, tuple[float, str]]:
    """Do as `stored`, with distributions that are already at hand, and perhaps their `distribution_json` too."""
    return {
        name: (
            float(found.to_internal_repr(values[name])),
            distribution_to_json(found) if jsons is None else jsons[name],
        )
        for name, found in distributions.items()
        if name in values
    }
