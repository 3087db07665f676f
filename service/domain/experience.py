"""What studies that are done teach the next one of their kind: how far priors move, and which recipe is tried first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from trimtab.contract.priors import KnownRecipe, Rates, rounded

FEWEST_STUDIES = 3
"""Fewer teach nothing: one study's winner is much luck."""


@dataclass(frozen=True, slots=True)
class Won:
    """What won in one study that is done.

    Attributes:
        learning_rate: The winner's learning rate as adamw's, above 0.
        recipe: The name of the best of the known recipes that it tried; None where it tried none.
    """

    learning_rate: float
    recipe: str | None


def centre(rates: Rates, won: Sequence[Won]) -> float:
    """Return the centre of a learning rate's prior: that of the table, moved towards the median of what won.

    It moves by half of the prior's standard deviation at most, so that a few odd studies cannot take it away.
    """
    if len(won) < FEWEST_STUDIES:
        return rates.centre
    found = median(math.log10(one.learning_rate) for one in won)
    moved = found - math.log10(rates.centre)
    most = rates.decades / 2
    return rounded(rates.centre * 10 ** min(max(moved, -most), most))


def order(recipes: Sequence[KnownRecipe], won: Sequence[Won]) -> tuple[KnownRecipe, ...]:
    """Return the recipes, those that were the best known one in more studies first; equals as in the table.

    All of them stay, so that no study is more than a trial or two the worse for what others taught.
    """
    if len(won) < FEWEST_STUDIES:
        return tuple(recipes)
    wins = Counter(one.recipe for one in won)
    return tuple(sorted(recipes, key=lambda recipe: -wins[recipe.name]))
