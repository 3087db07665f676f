"""The classification models of torchvision: built by name, their head, stages and statistics found."""

from collections.abc import Iterator
from typing import Any, cast

from torch import nn
from torchvision import models

from worker.training.backbones import Architecture

_CONTAINERS = ("features", "classifier", "heads", "layers", "blocks", "trunk_output", "encoder")
"""Modules that are no stage themselves but hold them."""
_OPTIONS: dict[str, dict[str, Any]] = {
    # Their auxiliary classifiers are for training from scratch; their weights expect inputs in [-1, 1].
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": True},
}
_ONE_SIZE = ("vit_", "maxvit_")
"""Families whose position embeddings fit one size of picture."""

_Unit = tuple[str, nn.Module]


def default_side(name: str) -> int:
    """Return the side of the pictures that a model's published weights were evaluated on."""
    return _published(name).transforms().crop_size[0]


def architecture(name: str, classes: int) -> Architecture:
    """Build a model with random weights and a head for `classes`."""
    published = _published(name)
    statistics = published.transforms()
    side = default_side(name)
    one_size = name.startswith(_ONE_SIZE)
    options = _OPTIONS.get(name, {}) | ({"image_size": side} if name.startswith("vit_") else {})
    network = models.get_model(name, weights=None, num_classes=classes, **options)
    head = find_head(network, classes)
    return Architecture(
        network=network,
        head=head,
        stages=find_stages(network, head),
        mean=tuple(statistics.mean),
        std=tuple(statistics.std),
        least_side=min(max(published.meta["min_size"]), side),
        only_side=side if one_size else None,
        weights_url=published.url,
        weights_classes=tuple(published.meta["categories"]),
    )


def find_head(network: nn.Module, classes: int) -> str:
    """Return the name of the last layer with an output for each class."""
    heads = [
        name
        for name, module in _modules(network)
        if (isinstance(module, nn.Linear) and module.out_features == classes)
        or (isinstance(module, nn.Conv2d) and module.out_channels == classes)
    ]
    return heads[-1]


def find_stages(network: nn.Module, head: str) -> tuple[tuple[str, ...], ...]:
    """Group a network's parameters, but the head's, into stages in the order in which pictures pass them.

    A block is a stage. Single layers in a row are one together, up to the next pooling or block, and a
    normalisation at the end belongs to the block before it. Parameters that stand alone (class tokens, position
    embeddings) belong to the first stage.
    """
    stages: list[list[str]] = []
    open_row = False
    for name, module in _units(network, ""):
        if name == head:
            continue
        if not any(True for _ in module.parameters()):
            open_row = open_row and not isinstance(module, nn.MaxPool2d)
            continue
        single = not any(True for _ in module.children())
        trailing = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) and bool(stages)
        if single and (open_row or trailing):
            stages[-1].append(name)
        else:
            stages.append([name])
            open_row = single
    stages[0] += _lone_parameters(network)
    return tuple(tuple(stage) for stage in stages)


def _units(module: nn.Module, prefix: str) -> Iterator[_Unit]:
    for name, child in module.named_children():
        if name in _CONTAINERS and any(True for _ in child.children()):
            yield from _units(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _lone_parameters(network: nn.Module) -> list[str]:
    return [
        f"{holder}.{name}".lstrip(".")
        for holder, module in _modules(network)
        if (holder in _CONTAINERS and any(True for _ in module.children())) or not holder
        for name, _ in module.named_parameters(recurse=False)
    ]


def _modules(network: nn.Module) -> Iterator[_Unit]:
    """Yield every module with its name; torch leaves the type half open."""
    return cast(Iterator[_Unit], network.named_modules())


def _published(name: str) -> Any:
    """Return the entry of a model's best published weights; torchvision types it loosely."""
    return cast(Any, models.get_model_weights(name)).DEFAULT
