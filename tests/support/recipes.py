"""Recipes that differ in one field."""

from typing import Any

from trimtab.contract.hyperparameters import Hyperparameter, hyperparameters
from trimtab.contract.recipe import Recipe


def another(recipe: Recipe, name: str) -> Recipe:
    """A legal recipe with another value in one field, chosen so that it is noticed where the field is read."""
    known = hyperparameters()[name]
    now = getattr(recipe, name)
    value = _from_nothing(known) if now is None else _beside(known, now)
    return Recipe.model_validate({**recipe.model_dump(), name: value})


def _from_nothing(known: Hyperparameter) -> float:
    assert known.low is not None
    return known.low if known.kind == "int" else known.low + 0.02


def _beside(known: Hyperparameter, now: Any) -> Any:
    if known.choices is not None:
        return known.choices[(known.choices.index(now) + 1) % len(known.choices)]
    assert known.low is not None
    if known.kind == "int":
        # Two more: an average over one epoch, for one, is what was trained.
        return now - 1 if now > known.low else now + 2
    return now / 2 if now else 0.5
