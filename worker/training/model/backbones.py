"""Pretrained networks with a new head, and what training must know about each."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from trimtab.contract.backbones import (
    CIFAR_RESNETS,
    GLYPHNET,
    OWN_PREFIX,
    TIMM_PREFIX,
    reads_text,
)
from trimtab.contract.recipe import Pooling, Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import ImageSpec, InputSpec
from worker.training.errors import (
    RecipeUnfit,
    WeightsOfSeveral,
    is_out_of_memory,
)
from worker.training.model import (
    cifar_resnets,
    glyphnet,
    heads,
    published_weights,
    small_maps,
    text_models,
    timm_models,
    user_code,
    weights_files,
)
from worker.training.model.architecture import Architecture
from worker.training.model.card import (
    CARD_KEY,
    ImageCard,
    ImageStatistics,
    InputCard,
    NetworkCard,
    TokenCard,
)
from worker.training.model.halves import Halves
from worker.training.model.heads import Head, HeadSlot
from worker.training.model.image_input import ImageInput
from worker.training.model.inputs import InputLayer
from worker.training.model.published_weights import WeightsReport
from worker.training.model.text_network import TextNetwork
from worker.training.model.token_input import TokenInput
from worker.training.model.user_backbones import OwnBackbones
from worker.training.model.weights_files import WeightsFile
from worker.training.seeding import derive, seeded

log = logging.getLogger(__name__)

GLYPHNET_WEIGHTS = Path(__file__).parents[2] / "weights" / "glyphnet.safetensors"


class Backbone(nn.Module):
    """A network that takes samples as `worker.data` stores them.

    Attributes:
        name: The backbone's name.
        classes: Names of its head's outputs, in order.
        input: The layer before the network, from stored samples to what it takes.
        network: The network itself; its state dict has the names that published weights have.
        stages: The names of modules or parameters that freeze together, a stage each (`Architecture`).
        whole: Names of modules that compute as one (`Architecture`).
        report: The tensors of the weights' file that were loaded and left out; None for random weights.
        tokenizer: The tokenizer that its samples were made by, as JSON; empty where they are no texts.
        known_head: Rows of the pretrained head for `classes`, where it knew them all.
        digests: Hash of the pretrained weights of the first stages, by their number, as far as asked for; None if
            nobody vouches that the weights are as they were loaded.
        halves: The network cut after its first stages, by their number, as far as asked for.
    """

    def __init__(self, name: str, classes: Sequence[str], architecture: Architecture) -> None:
        super().__init__()
        self.name = name
        self.classes = tuple(classes)
        self.input = architecture.input
        self.network = architecture.network
        small_maps.adopt(self.network)
        self.stages = architecture.stages
        self.head_name = architecture.head
        self.code = architecture.code
        self.tokenizer = architecture.tokenizer
        self.whole = architecture.whole
        self._tried: set[tuple[int, ...]] = set()
        self.report: WeightsReport | None = None
        self.known_head: dict[str, Tensor] | None = None
        self.halves: dict[int, Halves | None] = {}
        self._slot = HeadSlot(architecture.network, architecture.head)
        self._initial_head = {
            name: value.detach().clone() for name, value in self._slot.plain.named_parameters()
        }
        self._head_shape = heads.LINEAR
        self.digests: dict[int, str] | None = None

    @property
    def shape(self) -> NetworkCard | None:
        """The shape of a network whose name does not tell it."""
        return self.network.shape if isinstance(self.network, TextNetwork) else None

    @property
    def pooling(self) -> Pooling:
        """What stands for a text before the head."""
        return self._head_shape.pooling

    @property
    def head(self) -> nn.Module:
        """The last layers, which are new to this task."""
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
            if isinstance(self.network, TextNetwork):
                self.network.pooling.how = head.pooling
            self._head_shape = head
            # Their rest calls the head that was there before.
            self.halves = {}

    def draw_head(self, seed: int) -> None:
        """Draw what the pretrained weights hold nothing for in the head: the same for the same seed."""
        if self._head_shape.width:
            self._slot.draw(seed)
        elif self.report is not None:
            self._shuffle_head(seed)
            if self.own_head is not None:
                self.head.load_state_dict(self.own_head)

    def _shuffle_head(self, seed: int) -> None:
        """Shuffle the values that the architecture began with: each has a distribution of its own."""
        # In place and from a copy of the first values: a kept backbone then has the head of one that was just built.
        with seeded(derive(seed, "head")), torch.no_grad():
            for name, parameter in self._slot.plain.named_parameters():
                order = torch.randperm(parameter.numel())
                values = self._initial_head[name].flatten()[order]
                parameter.copy_(values.view_as(parameter))

    def forward(self, stored: Tensor) -> Tensor:
        """Return the logits `(N, classes)` of stored samples `(N, ...)`."""
        return cast(Tensor, self.network(self.input(stored)))

    def features(self, stored: Tensor) -> Tensor:
        """Return what the head sees of stored samples, `(N, F)`; a convolutional head's input is averaged."""
        # A hook, because no network has a method for it: whatever its code is, its head is called with the features.
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        hook = self.head.register_forward_pre_hook(keep)
        try:
            self(stored)
        finally:
            hook.remove()
        return seen[0].flatten(2).mean(dim=2) if seen[0].dim() == 4 else seen[0]

    def try_on(self, stored: Tensor) -> None:
        """See that a person's own network takes what its input layer makes of stored samples `(N, ...)`, once a shape.

        Raises:
            RecipeUnfit: It does not.
        """
        if not self.code:
            return
        # Whoever built the network has seen that it takes the example.
        self._tried = self._tried or {self._input_shape(self.input.example(1))}
        if (shape := self._input_shape(stored)) in self._tried:
            return
        try:
            with torch.no_grad(), seeded(0):
                self.eval()(stored)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise RecipeUnfit(self.name, shape[-1], user_code.last_line(error)) from error
        self._tried.add(shape)

    def _input_shape(self, stored: Tensor) -> tuple[int, ...]:
        with torch.no_grad():
            return tuple(self.input(stored).shape[1:])


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
        classes: Names of the head's outputs, in order.
        seed: The seed of all that is random: the head, and the whole network for `weights: none`.
        weights_dir: The folder that keeps published weights and begins relative paths; None is torch's cache and the
            working directory.
        own: The backbones that are registered on this worker.
        head: The head's shape.

    Raises:
        WeightsError: The weights are missing, unreachable, unreadable or another network's.
        BackboneError: An own backbone or its library is not here, or it is no network for the task.
    """
    # The head is drawn apart, so that a kept backbone gets the same one as a new backbone.
    with seeded(seed if model.weights == "none" else 0):
        architecture = _architecture(model, len(classes), own or OwnBackbones(), weights_dir)
    backbone = Backbone(model.backbone, classes, architecture)
    if model.weights == "none":
        backbone.put_head(head)
        backbone.draw_head(seed)
        return backbone
    if isinstance(backbone.network, TextNetwork):
        folder = _folder(model, weights_dir)
        backbone.report = text_models.load_into(backbone.network, folder, model)
        log.info("%s: %s", model.backbone, backbone.report.in_words())
        backbone.put_head(head)
        backbone.draw_head(seed)
        return backbone
    path = _weights_path(model, architecture, weights_dir)
    read = weights_files.read(path)
    if models := len(_card(read).get("members", ())):
        raise WeightsOfSeveral(path, models)
    file = published_weights.named_for(backbone.network, read, architecture.renamed)
    # Without a card, a head of as many outputs as the published one is taken to know its classes.
    known = _classes_on_card(file) or architecture.weights_classes
    backbone.known_head = _known_head(backbone, file, known)
    backbone.report = published_weights.load_into(
        backbone.network,
        file,
        source=str(path),
        backbone=model.backbone,
        head=backbone.head_name,
        knows_head=backbone.known_head is not None,
        partial=model.partial_weights,
    )
    log.info("%s: %s", model.backbone, backbone.report.in_words())
    backbone.put_head(head)
    backbone.draw_head(seed)
    return backbone


def input_spec(
    model: Model,
    recipe: Recipe,
    own: OwnBackbones | None = None,
    weights_dir: Path | None = None,
) -> InputSpec:
    """Return what a task's data are to be stored as, so that the backbone takes them.

    Args:
        model: The backbone.
        recipe: The recipe; its `image_size`, if it has one, goes before the size that the backbone was trained on.
        own: The backbones that are registered on this worker.
        weights_dir: The folder that begins relative paths; None is the working directory.

    Raises:
        BackboneError: An own backbone is not registered here, or none; timm is not here, or has no such model.
        WeightsError, DataError: A text model's folder is missing, or no whole model.
        TooManyTokens: The recipe reads more of a text than a text model has positions for.
    """
    if reads_text(model.backbone):
        return text_models.token_spec(model, _folder(model, weights_dir), recipe)
    if model.backbone.startswith(TIMM_PREFIX):
        return timm_models.input_spec(model.backbone, recipe)
    if recipe.image_size is not None or model.backbone == GLYPHNET:
        return ImageSpec(recipe.image_size, recipe.resize)
    if model.backbone.startswith(OWN_PREFIX):
        return ImageSpec((own or OwnBackbones()).image_size(model.backbone), recipe.resize)
    if model.backbone in CIFAR_RESNETS:
        return ImageSpec(cifar_resnets.SIDE, recipe.resize)
    # Imported here because torchvision costs seconds, and the others do without.
    from worker.training.model import torchvision_models

    return ImageSpec(torchvision_models.default_side(model.backbone), recipe.resize)


def input_layer(card: InputCard | ImageStatistics, built: InputLayer) -> InputLayer:
    """Make the input layer of an exported model, with the bits that it had.

    Args:
        card: The description of the layer in the model's file.
        built: The layer of the backbone's code, which may have changed since; gives what older files do not say.
    """
    match card:
        case ImageCard():
            return ImageInput.of(card)
        case TokenCard():
            return TokenInput(card)
        case ImageStatistics(mean=mean, std=std):
            told = {**built.card().model_dump(), "mean": mean, "std": std}
            return ImageInput.of(ImageCard.model_validate(told))


def _architecture(
    model: Model, classes: int, own: OwnBackbones, weights_dir: Path | None
) -> Architecture:
    name = model.backbone
    if reads_text(name):
        return text_models.architecture(model, _folder(model, weights_dir), classes)
    if name == GLYPHNET:
        return glyphnet.architecture(classes)
    if name.startswith(OWN_PREFIX):
        return own.architecture(name, classes)
    if name.startswith(TIMM_PREFIX):
        return timm_models.architecture(name, classes)
    if name in CIFAR_RESNETS:
        return cifar_resnets.architecture(name, classes)
    from worker.training.model import torchvision_models  # As above.

    return torchvision_models.architecture(name, classes)


def _folder(model: Model, weights_dir: Path | None) -> Path:
    """Return the path that a model's weights are named by."""
    return (weights_dir or Path.cwd()) / Path(model.weights).expanduser()


def _weights_path(model: Model, architecture: Architecture, weights_dir: Path | None) -> Path:
    if model.weights != "default":
        return _folder(model, weights_dir)
    if architecture.weights_path is not None:
        return architecture.weights_path(weights_dir)
    if architecture.weights_url is None:
        return GLYPHNET_WEIGHTS
    return published_weights.download(model.backbone, architecture.weights_url, weights_dir)


def _known_head(
    backbone: Backbone, file: WeightsFile, known: Sequence[str]
) -> dict[str, Tensor] | None:
    # A name that the published head has twice, as ImageNet's has, does not tell which of both is meant.
    once = {name for name, count in Counter(known).items() if count == 1}
    if not set(backbone.classes) <= once:
        return None
    rows = torch.tensor([known.index(name) for name in backbone.classes])
    named = {name: f"{backbone.head_name}.{name}" for name in backbone.head.state_dict()}
    # A file without the head, or with one of another size, is another network's or a bare backbone's.
    if any(len(file.tensors.get(full, ())) != len(known) for full in named.values()):
        return None
    # Integers and 8 bits are no weights without their scales.
    if not all(published_weights.is_weight(file.tensors[full]) for full in named.values()):
        return None
    return {name: file.tensors[full][rows] for name, full in named.items()}


def _classes_on_card(file: WeightsFile) -> list[str]:
    return _card(file).get("classes", [])


def _card(file: WeightsFile) -> dict[str, Any]:
    return json.loads(file.metadata.get(CARD_KEY, "{}"))


def is_within(name: str, modules: Collection[str]) -> bool:
    """Whether a module, parameter or buffer is one of those named or inside one of them."""
    # With the dot, so that `layer1` is not found within `layer10`.
    return f"{name}.".startswith(tuple(f"{start}." for start in modules))
