"""The legal values of each hyperparameter, read from the fields of `Recipe` so that no bound is written twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from trimtab.contract.datasets import Modality
from trimtab.contract.recipe import Recipe, Scope


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """The legal values of one hyperparameter, in a search space, as a fixed value or in a recipe."""

    name: str
    kind: Literal["int", "float", "str"]
    default: int | float | str | None
    description: str
    scope: Scope
    reads: Modality | None = None
    low: float | None = None
    high: float | None = None
    low_exclusive: bool = False
    high_exclusive: bool = False
    choices: tuple[str, ...] | None = None

    def allows(self, value: object) -> bool:
        """Return whether a recipe may hold `value`. An integer is a legal float; a bool is never legal."""
        match value:
            case None:
                return self.default is None
            case bool():
                return False
            case str():
                return self.choices is not None and value in self.choices
            case int() | float() if self.kind == "float" or (
                self.kind == "int" and isinstance(value, int)
            ):
                return self._within(value)
            case _:
                return False

    def _within(self, value: float) -> bool:
        # Written so that NaN, which compares false with everything, is outside of every range.
        low = self.low is None or (
            value > self.low if self.low_exclusive else value >= self.low
        )
        high = self.high is None or (
            value < self.high if self.high_exclusive else value <= self.high
        )
        return low and high


def hyperparameters() -> Mapping[str, Hyperparameter]:
    """Return every field of `Recipe` by name, read from its JSON schema."""
    properties: dict[str, dict[str, Any]] = Recipe.model_json_schema()["properties"]
    return MappingProxyType({name: _read(name, schema) for name, schema in properties.items()})


def of_scope(scope: Scope) -> frozenset[str]:
    """Return the names of the hyperparameters that change this of a training (`Recipe`)."""
    return frozenset(name for name, known in hyperparameters().items() if known.scope == scope)


def _read(name: str, schema: dict[str, Any]) -> Hyperparameter:
    value = schema["anyOf"][0] if "anyOf" in schema else schema
    kinds: dict[str, Literal["int", "float", "str"]] = {
        "integer": "int",
        "number": "float",
        "string": "str",
    }
    return Hyperparameter(
        name=name,
        kind=kinds[value["type"]],
        default=schema["default"],
        description=schema["description"],
        scope=schema["scope"],
        reads=schema.get("reads"),
        low=value.get("minimum", value.get("exclusiveMinimum")),
        high=value.get("maximum", value.get("exclusiveMaximum")),
        low_exclusive="exclusiveMinimum" in value,
        high_exclusive="exclusiveMaximum" in value,
        choices=tuple(value["enum"]) if "enum" in value else None,
    )
