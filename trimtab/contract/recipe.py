"""Every hyperparameter that a worker understands: its type, default, legal range and meaning, written once."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from trimtab.contract.message import Int, Message, Number


class Recipe(Message):
    """All that a worker needs to know to train one trial: a study's fixed values and the trial's sampled ones.

    No rule links two fields: every combination of legal values is a legal recipe, so that a sampler can
    never propose one that cannot be trained.
    """

    epochs: Int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Passes over the training split; the schedule's length.",
    )
    batch_size: Int = Field(
        default=32, ge=1, le=65_536, description="Images in one optimizer step."
    )
    learning_rate: Number = Field(
        default=1e-3, gt=0, le=10, description="Peak learning rate, reached after the warm-up."
    )
    weight_decay: Number = Field(
        default=1e-4,
        ge=0,
        le=10,
        description="Pull of the weights towards zero: added to the gradient by sgd and adam, decoupled in "
        "adamw; biases and normalisation layers are spared.",
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        default="adamw", description="Update rule; sgd takes Nesterov's momentum."
    )
    momentum: Number = Field(
        default=0.9, ge=0, lt=1, description="Momentum of sgd; adam and adamw do not read it."
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="cosine",
        description="Learning rate after the warm-up: kept, or lowered to zero step by step until the last epoch ends.",
    )
    warmup_epochs: Number = Field(
        default=0.0,
        ge=0,
        le=10_000,
        description="Epochs (fractions allowed) in which the learning rate rises from zero to its peak.",
    )
    frozen_stages: Int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="Stages of the backbone, counted from the input, that keep their weights: 0 trains all; "
        "the backbone's number of stages or more trains the head alone.",
    )
    early_stopping_patience: Int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Epochs without a better validation accuracy after which training ends; 0 never ends it early.",
    )
    early_stopping_min_gain: Number = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Gain in validation accuracy (0 to 1) that early stopping counts as better.",
    )
    image_size: Annotated[Int, Field(ge=8, le=1024)] | None = Field(
        default=None,
        description="Side in pixels of the square images; null: what the backbone's published weights were made "
        "for; glyphnet keeps small images that all have one side as they are.",
    )


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """What is legal for one name in a search space, a fixed value or a recipe."""

    name: str
    kind: Literal["int", "float", "str"]
    default: int | float | str | None
    description: str
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
        low=value.get("minimum", value.get("exclusiveMinimum")),
        high=value.get("maximum", value.get("exclusiveMaximum")),
        low_exclusive="exclusiveMinimum" in value,
        high_exclusive="exclusiveMaximum" in value,
        choices=tuple(value["enum"]) if "enum" in value else None,
    )
