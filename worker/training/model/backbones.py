"""Pretrained networks with a new head, and what training must know about each."""

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.backbones import CIFAR_RESNETS, GLYPHNET, OWN_PREFIX
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training.errors import RecipeUnfit, is_out_of_memory
from worker.training.model import (
    cifar_resnets,
    glyphnet,
    heads,
    published_weights,
    small_maps,
    user_code,
)
from worker.training.model.architecture import Architecture
from worker.training.model.card import CARD_KEY
from worker.training.model.halves import Halves
from worker.training.model.heads import Head, HeadSlot
from worker.training.model.published_weights import WeightsFile, WeightsReport
from worker.training.model.user_backbones import OwnBackbones
from worker.training.seeding import derive, seeded

log = logging.getLogger(__name__)

GLYPHNET_WEIGHTS = Path(__file__).parents[2] / "weights" / "glyphnet.safetensors"

_LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue (ITU-R BT.601), as Pillow converts."""


class Backbone(nn.Module):
    """A network that takes pictures as the data room keeps them.

    Attributes:
        name: Of the backbone.
        classes: What its head's outputs stand for, in order.
        network: The network itself; its state dict has the names that published weights have.
        stages: See `Architecture`.
        report: What was loaded; None for random weights.
        known_head: Rows of the pretrained head for `classes`, where it knew them all.
        digests: Of the pretrained weights of the first so many stages, as far as asked for; None where nobody
            vouches that the weights are as they were loaded.
        halves: The network cut after so many stages, as far as asked for.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, classes: Sequence[str], architecture: Architecture) -> None:
        super().__init__()
        self.name = name
        self.classes = tuple(classes)
        self.network = architecture.network
        small_maps.adopt(self.network)
        self.stages = architecture.stages
        self.head_name = architecture.head
        self.least_side = architecture.least_side
        self.only_side = architecture.only_side
        self.code = architecture.code
        self.tried_side = architecture.tried_side
        self._tried_sides = {architecture.tried_side}
        self.report: WeightsReport | None = None
        self.known_head: dict[str, Tensor] | None = None
        self.halves: dict[int, Halves | None] = {}
        self._slot = HeadSlot(architecture.network, architecture.head)
        self._initial_head = {
            name: value.detach().clone() for name, value in self._slot.plain.named_parameters()
        }
        self._head_shape = heads.LINEAR
        self.digests: dict[int, str] | None = None
        self.register_buffer("mean", _per_channel(architecture.mean), persistent=False)
        self.register_buffer("std", _per_channel(architecture.std), persistent=False)

    @property
    def head(self) -> nn.Module:
        """What is new to this task."""
        return self.network.get_submodule(self.head_name)

    @property
    def own_head(self) -> dict[str, Tensor] | None:
        """The head of the model before any training; None where it knew other classes or the new one is of another kind."""
        shape = self._head_shape
        return None if shape.width or shape.signed else self.known_head

    def put_head(self, head: Head) -> None:
        """Give the network a head of this shape; `draw_head` gives it its weights."""
        if head != self._head_shape:
            self._slot.put(head)
            self._head_shape = head
            self.halves = {}

    def draw_head(self, seed: int) -> None:
        """Draw what the pretrained weights hold nothing for in the head: the same for the same seed."""
        if self._head_shape.width:
            self._slot.draw(seed)
        elif self.report is not None:
            self._shuffle_head(seed, known=set(self.report.matched))

    def _shuffle_head(self, seed: int, *, known: Collection[str]) -> None:
        """Shuffle the values that the architecture began with: each has a distribution of its own."""
        with seeded(derive(seed, "head")), torch.no_grad():
            for name, parameter in self._slot.plain.named_parameters():
                order = torch.randperm(parameter.numel())
                if f"{self.head_name}.{name}" not in known:
                    values = self._initial_head[name].flatten()[order]
                    parameter.copy_(values.view_as(parameter))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `(N, classes)` of uint8 images `(N, H, W, C)`, grey or colour."""
        return cast(Tensor, self.network(self.normalised(images)))

    def features(self, images: Tensor) -> Tensor:
        """Return what the head sees of uint8 images, `(N, F)`; a convolutional head's input is averaged."""
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        hook = self.head.register_forward_pre_hook(keep)
        try:
            self(images)
        finally:
            hook.remove()
        return seen[0].flatten(2).mean(dim=2) if seen[0].dim() == 4 else seen[0]

    def try_on(self, images: Tensor) -> None:
        """See that a person's own network takes pictures of this size, once for each size.

        Raises:
            RecipeUnfit: It does not.
        """
        side = self.only_side or max(self.least_side, images.shape[1])
        if not self.code or side in self._tried_sides:
            return
        try:
            with torch.no_grad(), seeded(0):
                self.eval()(images)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise RecipeUnfit(self.name, side, user_code.last_line(error)) from error
        self._tried_sides.add(side)

    def normalised(self, images: Tensor) -> Tensor:
        """Return what the network takes, `(N, channels, H, W)`, of uint8 images."""
        x = images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255
        channels = self.mean.shape[1]
        if channels == 1 and x.shape[1] == 3:
            x = (x * _per_channel(_LUMA).to(x)).sum(dim=1, keepdim=True)
        x = (x - self.mean).div_(self.std)  # One grey channel spreads over three here.
        side = self.only_side or max(self.least_side, x.shape[-1])
        if side != x.shape[-1]:
            x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x


def build(
    model: Model,
    *,
    classes: Sequence[str],
    seed: int,
    weights_dir: Path | None = None,
    own: OwnBackbones | None = None,
    head: Head = heads.LINEAR,
) -> Backbone:
    """Make a backbone with a new head for `classes` and the weights that `model` names.

    Args:
        model: Backbone and weights.
        classes: What the head's outputs stand for.
        seed: Of everything random in it: the head, and all of it for `weights: none`.
        weights_dir: Where published weights are kept and relative paths begin; None is torch's cache and the
            working directory.
        own: The backbones that are registered on this worker.
        head: Its shape.

    Raises:
        WeightsError: The weights are missing, unreachable, unreadable or another network's.
        BackboneError: An own backbone is not registered here, or no network for the task.
    """
    # The head is drawn apart, so that a kept backbone gets the same one as a new backbone.
    with seeded(seed if model.weights == "none" else 0):
        architecture = _architecture(model.backbone, len(classes), own or OwnBackbones())
    backbone = Backbone(model.backbone, classes, architecture)
    if model.weights == "none":
        backbone.put_head(head)
        backbone.draw_head(seed)
        return backbone
    path = _weights_path(model, architecture, weights_dir)
    file = published_weights.named_for(backbone.network, published_weights.read(path))
    # Without a card, a head of as many outputs as the published one is taken to know its classes.
    known = _classes_on_card(file) or architecture.weights_classes
    backbone.known_head = _known_head(backbone, file, known)
    backbone.report = published_weights.load_into(
        backbone.network, file, source=str(path), backbone=model.backbone
    )
    log.info("%s: %s", model.backbone, backbone.report.in_words())
    backbone.put_head(head)
    backbone.draw_head(seed)
    return backbone


def image_size(model: Model, recipe: Recipe, own: OwnBackbones | None = None) -> int | None:
    """Return the side in pixels to load a task's pictures with; None leaves it to the data.

    Raises:
        BackboneError: As `build`.
    """
    if recipe.image_size is not None or model.backbone == GLYPHNET:
        return recipe.image_size
    if model.backbone.startswith(OWN_PREFIX):
        return (own or OwnBackbones()).image_size(model.backbone)
    if model.backbone in CIFAR_RESNETS:
        return cifar_resnets.SIDE
    # Imported here because torchvision costs seconds, and the others do without.
    from worker.training.model import torchvision_models

    return torchvision_models.default_side(model.backbone)


def _architecture(name: str, classes: int, own: OwnBackbones) -> Architecture:
    if name == GLYPHNET:
        return glyphnet.architecture(classes)
    if name.startswith(OWN_PREFIX):
        return own.architecture(name, classes)
    if name in CIFAR_RESNETS:
        return cifar_resnets.architecture(name, classes)
    from worker.training.model import torchvision_models  # As above.

    return torchvision_models.architecture(name, classes)


def _weights_path(model: Model, architecture: Architecture, weights_dir: Path | None) -> Path:
    if model.weights != "default":
        return (weights_dir or Path.cwd()) / Path(model.weights).expanduser()
    if architecture.weights_url is None:
        return GLYPHNET_WEIGHTS
    return published_weights.download(model.backbone, architecture.weights_url, weights_dir)


def _known_head(
    backbone: Backbone, file: WeightsFile, known: Sequence[str]
) -> dict[str, Tensor] | None:
    if not set(backbone.classes) <= set(known):
        return None
    rows = torch.tensor([known.index(name) for name in backbone.classes])
    named = {name: f"{backbone.head_name}.{name}" for name in backbone.head.state_dict()}
    if any(len(file.tensors.get(full, ())) != len(known) for full in named.values()):
        return None
    return {name: file.tensors[full][rows] for name, full in named.items()}


def _classes_on_card(file: WeightsFile) -> list[str]:
    return json.loads(file.metadata.get(CARD_KEY, "{}")).get("classes", [])


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def is_within(name: str, modules: Collection[str]) -> bool:
    """Whether a module, parameter or buffer is one of those named or inside one of them."""
    return f"{name}.".startswith(tuple(f"{start}." for start in modules))
