"""What studies that are done teach the next one: within bounds."""

import pytest

from service.domain.experience import Won, centre, order
from trimtab.contract.priors import RATES, known_recipes

RATE = RATES["small_convnet"]
RECIPES = known_recipes("small_convnet", "adamw", "classification")
"""warm_cosine, fast_head, plain."""


def won(*rates: float, recipe: str | None = None) -> list[Won]:
    return [Won(rate, recipe) for rate in rates]


def names(studies: list[Won]) -> list[str]:
    return [one.name for one in order(RECIPES, studies)]


def test_the_centre_goes_to_the_median_of_three_studies() -> None:
    assert centre(RATE, won(3e-3, 1e-5, 1e-2)) == pytest.approx(3e-3)
    assert centre(RATE, won(1.5e-3, 1.6e-3, 1e-1)) == pytest.approx(1.6e-3)


def test_two_studies_move_nothing() -> None:
    assert centre(RATE, won(2.5e-3, 2.5e-3)) == RATE.centre
    assert names(won(1e-3, 1e-3, recipe="plain")) == ["warm_cosine", "fast_head", "plain"]


def test_it_moves_by_half_of_its_spread_at_most() -> None:
    most = 10 ** (0.4 / 2)
    assert centre(RATE, won(1e-1, 1e-1, 1e-1)) == pytest.approx(2e-3 * most, rel=1e-2)
    assert centre(RATE, won(1e-5, 1e-5, 1e-5)) == pytest.approx(2e-3 / most, rel=1e-2)


def test_recipes_that_won_more_often_come_first_and_none_is_lost() -> None:
    found = won(1e-3, 1e-3, recipe="plain") + won(1e-3, recipe="fast_head") + won(1e-3)
    assert names(found) == ["plain", "fast_head", "warm_cosine"]
    assert names(won(1e-3, 1e-3, 1e-3)) == ["warm_cosine", "fast_head", "plain"]
