"""A person's own backbones, from their file or package: registered on the worker, never sent in a request.

What is offered under a name is a function of the number of outputs that returns the network, or a mapping of `build`,
such a function, and the other facts of `Facts`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from trimtab.contract.backbones import OWN_PREFIX
from trimtab.contract.message import Flag, Int, Message
from worker.training.errors import BackboneMissing, BackbonesUnreadable, BackboneUnfit
from worker.training.model import user_code
from worker.training.model.architecture import Architecture, find_head, find_stages
from worker.training.model.image_input import ImageInput
from worker.training.model.inputs import InputLayer
from worker.training.model.user_code import Offer

_Statistics = Annotated[tuple[float, ...], Field(min_length=1)]


class Facts(Message):
    """Facts that a network's code does not tell; the defaults are those of networks that are trained on ImageNet."""

    build: Callable[..., object]
    """Makes the network for a number of outputs."""
    mean: _Statistics = (0.485, 0.456, 0.406)
    """The mean of the pictures that it was trained on, a number for each channel, in [0, 1]."""
    std: _Statistics = (0.229, 0.224, 0.225)
    """Their standard deviation, likewise."""
    image_size: Annotated[Int, Field(ge=1)] = 224
    """The side in pixels of the pictures that it was trained on."""
    one_size: Flag = False
    """Whether it takes pictures of no other side: all are scaled to it then."""
    head: str | None = None
    """Name of its last layer; None: the last linear or convolutional one with as many outputs as asked for."""
    stages: tuple[tuple[str, ...], ...] | None = None
    """The names of modules that freeze together, stage by stage from the input on; None: its blocks."""
    classes: tuple[str, ...] = ()
    """The classes of the head that its weights have, where the weights' file does not name them."""

    @model_validator(mode="after")
    def _speak_of_the_same_channels(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have a number for each channel")
        return self


@dataclass(frozen=True, slots=True)
class OwnBackbones:
    """The backbones that are registered on this worker.

    Attributes:
        offers: The registered functions, by name.
    """

    offers: Mapping[str, Offer] = field(default_factory=dict[str, Offer])

    @classmethod
    def gather(cls, files: Sequence[Path] = ()) -> Self:
        """Run the files and list the installed entry points, which are loaded once they are asked for.

        Raises:
            BackbonesUnreadable: A file is missing, raises or offers nothing, or a name comes twice.
        """
        known: dict[str, Offer] = {}
        for name, offer in (*user_code.of_files(files), *user_code.of_packages()):
            if name in known:
                both = f"{known[name].origin} and {offer.origin}"
                raise BackbonesUnreadable(offer.origin, f"{name!r} is registered twice: {both}")
            known[name] = offer
        return cls(known)

    def image_size(self, backbone: str) -> int:
        """Return the side of the pictures that a backbone was trained on.

        Raises:
            BackboneMissing: It is not registered here.
            BackboneUnfit: The registered object is not a backbone.
        """
        return self._facts(backbone).image_size

    def architecture(self, backbone: str, classes: int) -> Architecture:
        """Build a network with a head for `classes`, try it on two pictures of noise, and find its head and stages.

        Raises:
            BackboneMissing: It is not registered here.
            BackboneUnfit: It is not a network, or not one for this number of classes.
        """
        facts = self._facts(backbone)
        network = _network(backbone, facts, classes)
        layer = ImageInput(
            facts.mean,
            facts.std,
            only_side=facts.image_size if facts.one_size else None,
            example_side=facts.image_size,
        )
        code = _tried(backbone, network, layer, classes)
        try:
            head = facts.head or find_head(network, classes)
            network.get_submodule(head)
        except (LookupError, AttributeError) as error:
            raise BackboneUnfit(backbone, f"its head is not found: {error}") from error
        stages = find_stages(network, head) if facts.stages is None else facts.stages
        _check_stages(backbone, network, head, stages)
        return Architecture(
            network=network,
            head=head,
            stages=stages,
            input=layer,
            code=code,
            weights_classes=facts.classes,
        )

    def _facts(self, backbone: str) -> Facts:
        offer = self.offers.get(backbone.removeprefix(OWN_PREFIX))
        if offer is None:
            raise BackboneMissing(backbone, sorted(self.offers))
        try:
            offered = offer.load()
            told = {"build": offered} if callable(offered) else offered
            return Facts.model_validate(told)
        except ValidationError as error:
            reason = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
                for fault in error.errors(include_input=False)
            )
        except Exception as error:  # noqa: BLE001 - other people's code
            reason = user_code.last_line(error)
        raise BackboneUnfit(backbone, f"what {offer.origin} registers is not usable: {reason}")


def _network(backbone: str, facts: Facts, classes: int) -> nn.Module:
    try:
        name = user_code.argument(facts.build)
        network = facts.build(classes) if name is None else facts.build(**{name: classes})
    except Exception as error:
        raise BackboneUnfit(backbone, user_code.last_line(error)) from error
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise BackboneUnfit(backbone, f"its function returns {found}, no torch.nn.Module")
    return network


def _tried(backbone: str, network: nn.Module, layer: InputLayer, classes: int) -> str:
    """See that a network turns an example into logits; return their hash, which changes with its code."""
    try:
        with torch.no_grad():
            outputs: Any = network.eval()(layer(layer.example(2)))
    except Exception as error:
        raise BackboneUnfit(backbone, user_code.last_line(error)) from error
    if not isinstance(outputs, Tensor) or outputs.shape != (2, classes):
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        wanted = f"a tensor of shape (2, {classes}), one output per class"
        raise BackboneUnfit(backbone, f"for two pictures it returns {found}, not {wanted}")
    # The weights are drawn from a fixed seed (`backbones.build`), so that only other code gives other logits.
    network.train()
    return hashlib.sha256(outputs.float().cpu().numpy().tobytes()).hexdigest()


def _check_stages(
    backbone: str, network: nn.Module, head: str, stages: Sequence[Sequence[str]]
) -> None:
    named = [name for stage in stages for name in stage]
    for parameter, _ in network.named_parameters():
        holders = [name for name in (*named, head) if f"{parameter}.".startswith(f"{name}.")]
        if len(holders) != 1:
            where = " and ".join(holders) or "no stage"
            reason = f"`stages` must hold all but the head once: {parameter} is in {where}"
            raise BackboneUnfit(backbone, reason)
