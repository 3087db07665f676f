"""The model that a study begins with: one, or several of which each trial has one."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Discriminator, Field, Tag

from trimtab.contract.backbones import reads_text
from trimtab.contract.datasets import Modality
from trimtab.contract.message import Message, Name
from trimtab.contract.priors import Family, family_of
from trimtab.contract.tasks import Model

MODEL = "model"
"""The name of the dimension that says which model a trial has."""


class ModelChoices(Message):
    """Several pretrained models by names of their own; the search chooses one for each trial."""

    choices: Annotated[Mapping[Name, Model], Field(min_length=1, max_length=20)]


def _form(given: object) -> str:
    several = isinstance(given, ModelChoices) or (
        isinstance(given, Mapping) and "choices" in given
    )
    return "several_models" if several else "one_model"


GivenModel = Annotated[
    Annotated[Model, Tag("one_model")] | Annotated[ModelChoices, Tag("several_models")],
    Discriminator(_form),
]
"""What `model` of a document may be."""


def models_of(model: Model | ModelChoices | None) -> Mapping[str, Model]:
    """Return the models by their names; one alone has the name ''; an external study has none."""
    if model is None:
        return {}
    return model.choices if isinstance(model, ModelChoices) else {"": model}


def families_of(model: Model | ModelChoices | None) -> Mapping[str, Family]:
    """Return the kind of each model by its name; one alone has the name ''; an external study has none."""
    return {
        name: family_of(one.backbone, one.weights) for name, one in models_of(model).items()
    }


def modalities_of(model: Model | ModelChoices | None) -> frozenset[Modality]:
    """Return the kinds of samples that a study's models take; none where it has no model."""
    backbones = (one.backbone for one in models_of(model).values())
    return frozenset("text" if reads_text(one) else "image" for one in backbones)


def stored_model(model: Mapping[str, Any], sampled: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model of a trial from a document's and the trial's hyperparameters, all as they are stored."""
    return model["choices"][sampled[MODEL]] if "choices" in model else model


def names_of(model: object) -> tuple[str, ...] | None:
    """Return the names of a document's models as it was given; None where it names one model, or is not to be read."""
    if isinstance(model, ModelChoices):
        return tuple(model.choices)
    if not isinstance(model, Mapping):
        return None
    choices = cast("Mapping[str, Any]", model).get("choices")
    if not isinstance(choices, Mapping):
        return None
    return tuple(str(name) for name in cast("Mapping[object, Any]", choices))


def with_model_dimension(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the dimension of the models to a document's space, where it has several models and leaves that out.

    Args:
        document: A document as it was given, whose space is no word.
    """
    names, space = names_of(document.get("model")), document.get("space")
    if not names or not isinstance(space, Mapping) or MODEL in space:
        return document
    added = {"kind": "choices", "choices": list(names)}
    return {**document, "space": {MODEL: added, **cast("Mapping[str, Any]", space)}}
