"""What is legal for each hyperparameter by its name, read from the recipe so that nothing is written twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from trimtab.contract.recipe import Recipe, Scope


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """What is legal for one name in a search space, a fixed value or a recipe."""

    name: str
    kind: Literal["int", "float", "str"]
    default: int | float | str | None
    description: str
    scope: Scope
    low: float | None = None
    high: float | None = None
    low_exclusive: bool = False
    high_exclusive: bool = False
    choices: tuple[str, ...] | None = None

    def allows(self, value: object) -> bool:
        """Tell whether a recipe may hold `value`; a whole number will do for a float, a bool for nothing."""
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
        # Spelt so that NaN, which compares false with everything, is within nothing.
        low = self.low is None or (
            value > self.low if self.low_exclusive else value >= self.low
        )
        high = self.high is None or (
            value < self.high if self.high_exclusive else value <= self.high
        )
        return low and high


def hyperparameters() -> Mapping[str, Hyperparameter]:
    """Return every field of `Recipe` by name, read from its JSON schema so that nothing is written twice."""
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
        low=value.get("minimum", value.get("exclusiveMinimum")),
        high=value.get("maximum", value.get("exclusiveMaximum")),
        low_exclusive="exclusiveMinimum" in value,
        high_exclusive="exclusiveMaximum" in value,
        choices=tuple(value["enum"]) if "enum" in value else None,
    )
