"""Parameter groups: the update, the learning rate and the decay of each parameter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from trimtab.contract.recipe import Recipe
from worker.training.model.backbones import Backbone, is_within
from worker.training.model.freezing import Freezing, frozen_modules
from worker.training.model.lora import LowRank

Update = Literal["sgd", "adam", "adamw", "muon"]

_MATRICES = ("weight", "lora_A", "lora_B")
"""Endings of the names of matrices that map features to features."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The update of a parameter.

    Attributes:
        update: The name of the optimizer.
        rate: The factor on the schedule's learning rate.
        weight_decay: The strength of the pull to zero.
        l2_sp: The strength of the pull to the pretrained value (L2-SP, Li et al., 2018,
            https://arxiv.org/abs/1802.01483, section 3).
    """

    update: Update
    rate: float = 1.0
    weight_decay: float = 0.0
    l2_sp: float = 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share a rule, by name."""

    rule: Rule
    parameters: Mapping[str, nn.Parameter]


def of_backbone(freezing: Freezing, low_rank: LowRank | None = None) -> list[Group]:
    """Group the parameters that at least one epoch trains; with LoRA, its factors replace those of the stages."""
    backbone = freezing.model
    # With LoRA no stage's own parameters are trained, neither those of still stages nor of thawed ones.
    untouched = freezing.still if low_rank is None else len(backbone.stages)
    modules = frozen_modules(backbone, untouched)
    moving = {
        name: parameter
        for name, parameter in backbone.network.named_parameters()
        if not is_within(name, modules)
    }
    factors = {} if low_rank is None else low_rank.factors
    return _grouped(freezing.recipe, moving | factors, lambda name: _distance(backbone, name))


def of_head(head: nn.Module, recipe: Recipe) -> list[Group]:
    """Group the parameters of a head that is trained without its backbone."""
    return _grouped(recipe, dict(head.named_parameters()), lambda _: 0)


def _distance(backbone: Backbone, name: str) -> int:
    """Count the stages from the head to a parameter: 1 in the last stage, 0 in the head and outside of all stages."""
    for distance, modules in enumerate(reversed(backbone.stages), start=1):
        if is_within(name, modules):
            return distance
    return 0


def _grouped(
    recipe: Recipe, parameters: Mapping[str, nn.Parameter], distance: Callable[[str], int]
) -> list[Group]:
    groups: dict[Rule, dict[str, nn.Parameter]] = {}
    for name, parameter in parameters.items():
        rule = _rule(recipe, name, parameter, distance(name))
        groups.setdefault(rule, {})[name] = parameter
    return [Group(rule, own) for rule, own in groups.items()]


def _rule(recipe: Recipe, name: str, parameter: nn.Parameter, distance: int) -> Rule:
    """Return the rule of one parameter; with `layer_decay` the learning rate falls with the distance from the head.

    Source: the layer-wise learning rate decay of ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555) and of
    the fine-tuning of BEiT (Bao et al., 2022, https://arxiv.org/abs/2106.08254).
    """
    is_matrix = parameter.dim() > 1
    l2_sp = recipe.l2_sp if distance and is_matrix else 0.0
    return Rule(
        update=_update(recipe, is_matrix and name.endswith(_MATRICES) and distance > 0),
        rate=recipe.layer_decay**distance if distance else _head_rate(recipe),
        weight_decay=recipe.weight_decay if is_matrix and not l2_sp else 0.0,
        l2_sp=l2_sp,
    )


def _head_rate(recipe: Recipe) -> float:
    """Return the factor on the schedule's learning rate that the head learns by."""
    own = recipe.head_learning_rate
    return recipe.head_factor if own is None else own / recipe.learning_rate


def _update(recipe: Recipe, is_hidden_matrix: bool) -> Update:
    """Return the update of one parameter: Muon's is for matrices between hidden layers, and AdamW takes the rest."""
    # Position embeddings, class tokens and scales are not matrices between layers, whatever their shape.
    if recipe.optimizer == "muon" and not is_hidden_matrix:
        return "adamw"
    return recipe.optimizer
