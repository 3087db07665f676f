"""The space that `auto` stands for: the few hyperparameters that matter for a kind of model, task and data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10
from statistics import fmean
from typing import Any, cast

from trimtab.contract.message import Message
from trimtab.contract.models import MODEL
from trimtab.contract.priors import SHADOWED, Family, Rates, family_of, rates_of, rounded
from trimtab.contract.search_space import Choices, Dimension, FloatRange, Scalar, When

FEW_EPOCHS = 20
"""Below so many, changed pictures cost more than they bring: they hurt at 8 epochs on drawings (our experiment)."""

_NOT_TO_BE_MIRRORED = ("digits", "MNIST", "KMNIST", "SVHN", "GTSRB")
"""Digits, letters and signs: mirrored ones are other ones, and changes hurt at a few epochs (our experiment)."""

_PHOTOS = (
    *("CIFAR10", "CIFAR100", "DTD", "EuroSAT", "FGVCAircraft"),
    *("FashionMNIST", "Flowers102", "Food101", "OxfordIIITPet"),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What of a document a space is made for.

    Attributes:
        families: The kind of each model by its name; one model alone has the name ''.
        optimizer: The optimizer.
        kind: The kind of task.
        dataset: The name of a public or builtin data set, else None.
        epochs: The number of epochs of a trial.
        fixed: The names of the hyperparameters that the document fixes.
    """

    families: Mapping[str, Family]
    optimizer: str
    kind: str
    dataset: str | None
    epochs: int
    fixed: frozenset[str]

    @property
    def reads_text(self) -> bool:
        """Whether all models read texts."""
        return set(self.families.values()) == {"encoder"}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Setting":
        """Read a document as it was given; what is wrong in it, and told elsewhere, counts as not given."""
        task, model, fixed = (
            _fields(document.get(name)) for name in ("task", "model", "fixed")
        )
        epochs, dataset = fixed.get("epochs"), _fields(task.get("dataset")).get("name")
        return cls(
            families={name: _family(one) for name, one in _models(model).items()},
            optimizer=str(fixed.get("optimizer", "adamw")),
            kind=str(task.get("kind", "classification")),
            dataset=None if dataset is None else str(dataset),
            epochs=epochs if isinstance(epochs, int) else 10,
            fixed=frozenset(fixed),
        )


def space(setting: Setting) -> dict[str, Dimension]:
    """Return the space for a setting, without what the document fixes.

    What matters for some of several models only has a condition on the model.

    The size of the data is not known before a worker has opened them; for a few dozen pictures smaller batches than these
    may be better.
    """
    found: dict[str, Dimension] = {
        MODEL: _choices(*setting.families),
        "learning_rate": _learning_rate(setting),
        "schedule": _schedule(setting),
        "batch_size": _choices(16, 32),
    }
    if setting.reads_text:
        found["pooling"] = _choices("mean", "cls")
    else:
        found["augmentation"] = _augmentation(setting)
    if pretrained := [name for name, one in setting.families.items() if one != "from_scratch"]:
        when = _with_models(pretrained, setting)
        found["frozen_stages"] = _choices(0, 1, 2, prior=0, when=when)
        found["head_factor"] = FloatRange(kind="float", low=1.0, high=30.0, log=True, when=when)
    if deep := [name for name, one in setting.families.items() if one == "transformer"]:
        # BEiT (https://arxiv.org/abs/2106.08254) and MAE (https://arxiv.org/abs/2111.06377) fine-tune with 0.65 to 0.75.
        found["layer_decay"] = _choices(1.0, 0.75, when=_with_models(deep, setting))
    if setting.reads_text:
        # ELECTRA fine-tunes with 0.8 and 0.9 (https://arxiv.org/abs/2003.10555, appendix B).
        found["layer_decay"] = _choices(1.0, 0.9)
    if setting.kind == "classification":
        found["label_smoothing"] = _choices(0.0, 0.1)
    return {
        name: dimension
        for name, dimension in found.items()
        if not _is_settled(name, setting) and len(getattr(dimension, "choices", "..")) > 1
    }


def beside(setting: Setting) -> Mapping[str, Scalar]:
    """Return what is fixed where such a space is searched."""
    return {} if _is_settled("warmup_share", setting) else {"warmup_share": 0.1}


def _is_settled(name: str, setting: Setting) -> bool:
    return name in setting.fixed or SHADOWED.get(name) in setting.fixed


def _with_models(names: Sequence[str], setting: Setting) -> When | None:
    """Return the condition of what matters for these models; None where these are all."""
    return None if len(names) == len(setting.families) else {MODEL: tuple(names)}


def _learning_rate(setting: Setting) -> FloatRange:
    rates = _rates(setting)
    return FloatRange(
        kind="float",
        low=rates.low,
        high=rates.high,
        log=True,
        prior=rates.centre,
        prior_spread=rates.decades,
    )


def _rates(setting: Setting) -> Rates:
    """Return the prior of the rates of all models: in the middle of theirs, and as wide as reaches them all."""
    first, *others = {
        one: rates_of(one, setting.optimizer) for one in setting.families.values()
    }.values()
    if not others:
        return first
    every = (first, *others)
    centres = [log10(one.centre) for one in every]
    reach = (max(centres) - min(centres)) / 2
    return replace(
        first,
        centre=rounded(10 ** fmean((min(centres), max(centres)))),
        decades=rounded(max(one.decades for one in every) + reach),
        low=min(one.low for one in every),
        high=max(one.high for one in every),
    )


def _schedule(setting: Setting) -> Choices:
    return (
        _choices("linear", "cosine") if setting.reads_text else _choices("constant", "cosine")
    )


def _augmentation(setting: Setting) -> Choices:
    if setting.dataset in _NOT_TO_BE_MIRRORED:
        return _choices("none")
    helps = setting.dataset in _PHOTOS and setting.epochs >= FEW_EPOCHS
    favoured = "flip_crop" if helps else "none"
    return _choices("none", "flip", "flip_crop", "trivial", prior=favoured)


def _choices(*choices: Scalar, prior: Scalar = None, when: When | None = None) -> Choices:
    return Choices(kind="choices", choices=choices, prior=prior, when=when)


def _models(model: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the models of a document by name; one alone has the name ''."""
    named = _fields(model.get("choices"))
    return {str(name): _fields(one) for name, one in named.items()} or {"": model}


def _family(model: Mapping[str, Any]) -> Family:
    return family_of(str(model.get("backbone")), str(model.get("weights", "default")))


def _fields(given: object) -> Mapping[str, Any]:
    if isinstance(given, Message):
        return given.model_dump()
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
