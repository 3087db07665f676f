"""The classification models of torchvision: built by name, with the statistics that they were published with."""

from typing import Any, cast

from torchvision import models

from worker.training.model.architecture import Architecture, find_head, find_stages
from worker.training.model.image_input import ImageInput

_OPTIONS: dict[str, dict[str, Any]] = {
    # Their auxiliary classifiers are for training from scratch; their weights expect inputs in [-1, 1].
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": True},
}
_ONE_SIZE = ("vit_", "maxvit_")
"""Families whose position embeddings fit one size of picture."""


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
        input=ImageInput(
            tuple(statistics.mean),
            tuple(statistics.std),
            least_side=min(max(published.meta["min_size"]), side),
            only_side=side if one_size else None,
        ),
        weights_url=published.url,
        weights_classes=tuple(published.meta["categories"]),
    )


def _published(name: str) -> Any:
    """Return the entry of a model's best published weights; torchvision types it loosely."""
    return cast(Any, models.get_model_weights(name)).DEFAULT
