"""The models of timm, each by its name: stages, head, pictures and weights as timm's own facts about them say.

timm is an extra (`trimtab[timm]`). Its import takes seconds, and whoever names none of its models does without.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from trimtab.contract.backbones import TIMM_PREFIX
from trimtab.contract.recipe import Recipe
from worker.data.modality import ImageSpec, Interpolation
from worker.training.errors import (
    BackboneUnfit,
    BackboneUnknown,
    LibraryMissing,
    WeightsUnavailable,
    WeightsUnpublished,
)
from worker.training.model import published_weights, user_code
from worker.training.model.architecture import Architecture, find_head, find_stages, outermost
from worker.training.model.image_input import ImageInput

log = logging.getLogger(__name__)

_NORMS = (nn.LayerNorm, nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm)
_SECOND_HEADS = ("head_dist", "heads_dist")
"""Names of the heads that learn from a teacher, beside those of the same names without `_dist`."""
_IMAGENET = 1000
"""Outputs of the heads whose classes are those of ImageNet-1k."""


def input_spec(backbone: str, recipe: Recipe) -> ImageSpec:
    """Return the pictures that a model's published weights were evaluated on; the recipe's size goes before.

    Raises:
        BackboneError: timm is not installed, has no such model, or it takes no square pictures.
    """
    facts = _facts(backbone)
    interpolation: Interpolation = "bicubic" if facts.interpolation == "bicubic" else "bilinear"
    # More than all: timm then adds a border of black, which would be no better here.
    crop = min(1.0, float(facts.crop_pct))
    side = _side(backbone, facts)
    return ImageSpec(recipe.image_size or side, recipe.resize, interpolation, crop)


def architecture(backbone: str, classes: int) -> Architecture:
    """Build a model with random weights and a head for `classes`.

    Raises:
        BackboneError: timm is not installed, has no such model, or it is no classifier of square pictures.
    """
    facts = _facts(backbone)
    side = _side(backbone, facts)
    network = _network(backbone, classes)
    head = _head(backbone, network, classes)
    layer = ImageInput(
        tuple(facts.mean),
        tuple(facts.std),
        least_side=_least_side(facts, side),
        only_side=side if facts.fixed_input_size else None,
    )
    return Architecture(
        network=network,
        head=head,
        stages=_stages(backbone, network, head),
        input=layer,
        code=f"timm {_timm(backbone).__version__}",
        weights_path=partial(_published, backbone, facts),
        weights_classes=_imagenet() if facts.num_classes == _IMAGENET else (),
        renamed=partial(_renamed, network),
    )


def _timm(backbone: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise LibraryMissing(backbone, "timm", "timm") from error
    return timm


def _facts(backbone: str) -> Any:
    """Return timm's configuration of a model's published weights; timm types it loosely."""
    timm, name = _timm(backbone), backbone.removeprefix(TIMM_PREFIX)
    known = cast(Sequence[str], timm.list_models())
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        renamed = cast(str | None, timm.models.get_deprecated_models().get(architecture))
        nearest = [renamed] if renamed else get_close_matches(architecture, known)
        raise BackboneUnknown(backbone, f"timm {timm.__version__}", _prefixed(nearest))
    tagged = cast(Sequence[str], timm.list_models(architecture, include_tags=True))
    if tag and name not in tagged:
        raise BackboneUnknown(backbone, f"timm {timm.__version__}", _prefixed(tagged))
    return timm.models.get_pretrained_cfg(name)


def _prefixed(names: Sequence[str]) -> list[str]:
    return [f"{TIMM_PREFIX}{name}" for name in names]


def _side(backbone: str, facts: Any) -> int:
    _, height, width = facts.input_size
    if height != width:
        raise BackboneUnfit(
            backbone,
            f"its weights take pictures of {height} x {width}, and here all are square: take a model of square pictures",
        )
    return height


def _least_side(facts: Any, side: int) -> int:
    """Return the smallest side that a network is sure to take."""
    if facts.min_input_size is not None:
        return min(side, max(facts.min_input_size[1:]))
    # Its last map has `pool_size` pixels: of a picture that is so much smaller, one is left.
    return side // facts.pool_size[0] if facts.pool_size else side


def _network(backbone: str, classes: int) -> nn.Module:
    name = backbone.removeprefix(TIMM_PREFIX)
    try:
        network = cast(nn.Module, _timm(backbone).create_model(name, num_classes=classes))
    except Exception as error:  # Models that are no classifiers refuse in words of their own.
        raise BackboneUnfit(backbone, user_code.last_line(error)) from error
    _join_heads(network)
    return network


class _SameHead(nn.Module):
    """Stands where a network has a second head, and calls the first one: the mean of both is then the first."""

    def __init__(self, parent: nn.Module, key: str) -> None:
        super().__init__()
        # In a tuple, so that torch does not take it for a child: the network would hold itself.
        self._parent = (parent,)
        self._key = key

    def forward(self, features: Tensor) -> Tensor:
        """`(N, F)` to `(N, classes)`."""
        return cast(Tensor, getattr(self._parent[0], self._key)(features))


def _join_heads(network: nn.Module) -> None:
    """Let networks that were distilled, and so have two heads, have the one that a training here gives them."""
    for name, _ in list(_modules(network)):
        holder, _, key = name.rpartition(".")
        if key in _SECOND_HEADS:
            parent = network.get_submodule(holder)
            setattr(parent, key, _SameHead(parent, key.removesuffix("_dist")))


def _head(backbone: str, network: nn.Module, classes: int) -> str:
    """Return the name of the last layer."""
    told: object = getattr(network, "get_classifier", lambda: None)()
    classifier = cast(tuple[object, ...], told)[0] if isinstance(told, tuple) else told
    within = next((name for name, module in _modules(network) if module is classifier), "")
    try:
        # The classifier may be more than one layer: a normalisation and a linear one.
        inner = find_head(nn.ModuleDict({"head": cast(nn.Module, classifier)}), classes)
    except (LookupError, TypeError) as error:
        raise BackboneUnfit(backbone, f"its head is not found: {error}") from error
    return within + inner.removeprefix("head")


def _stages(backbone: str, network: nn.Module, head: str) -> tuple[tuple[str, ...], ...]:
    """Group the parameters, but the head's, as timm does for its own decay of learning rates by layers."""
    matcher = cast(Callable[..., Any] | None, getattr(network, "group_matcher", None))
    if matcher is None:
        return find_stages(network, head)
    grouped = cast(
        Mapping[int, Sequence[str]],
        _timm(backbone).models.group_parameters(network, matcher(coarse=True)),
    )
    groups = [
        [name for name in names if not name.startswith(f"{head}.")]
        for _, names in sorted(grouped.items())
    ]
    groups = [names for names in groups if names]
    # A normalisation before the head belongs to the last block, as everywhere.
    if len(groups) > 1 and all(_is_of_norm(network, name) for name in groups[-1]):
        groups[-2:] = [groups[-2] + groups[-1]]
    stage_of = {name: stage for stage, names in enumerate(groups) for name in names}
    return tuple(tuple(outermost(network, "", stage_of, stage)) for stage in range(len(groups)))


def _is_of_norm(network: nn.Module, parameter: str) -> bool:
    return isinstance(network.get_submodule(parameter.rpartition(".")[0]), _NORMS)


def _published(backbone: str, facts: Any, folder: Path | None) -> Path:
    """Return the file of published weights: from the cache that timm itself fills, from `folder`, or from the network.

    Raises:
        WeightsUnpublished: There are none.
        WeightsUnavailable: They are not here, and cannot or may not be downloaded.
    """
    hub, url = cast(str | None, facts.hf_hub_id), cast(str | None, facts.url)
    if not (hub or url):
        raise WeightsUnpublished(backbone, "timm")
    name = f"{facts.architecture}.{facts.tag}" if facts.tag else str(facts.architecture)
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

    if hub:
        for file in (facts.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(hub, file) if file else None
            if isinstance(found, str):
                return Path(found)
    if url and (path := published_weights.kept_at(folder, url.rsplit("/", 1)[-1])).exists():
        return path
    address = hf_hub_url(hub, facts.hf_hub_filename or "model.safetensors") if hub else str(url)
    own_name = f"{name}{Path(address).suffix}" if hub else None
    path = published_weights.kept_at(folder, own_name or address.rsplit("/", 1)[-1])
    if constants.HF_HUB_OFFLINE and not path.exists():
        raise WeightsUnavailable(backbone, address, path, "HF_HUB_OFFLINE is set")
    return published_weights.download(backbone, address, folder, own_name)


def _renamed(network: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give tensors as the authors of a network published them timm's names and shapes, by timm's own function for it."""
    own = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if own is None:
        return tensors
    try:
        return cast(Mapping[str, Tensor], own(dict(tensors), network))
    # A file of another network raises whatever the function happens to meet in it.
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        log.info("timm does not know the form of this file: %s", user_code.last_line(error))
        return tensors


def _imagenet() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights  # timm has imported torchvision already.

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], network.named_modules())
