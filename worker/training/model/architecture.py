"""Facts that training must know about a network, and the search for them in networks that do not tell."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from worker.training.model.inputs import InputLayer

_CONTAINERS = (
    *("features", "classifier", "heads", "layers", "blocks", "trunk_output", "encoder"),
    *("stages", "backbone", "body", "model", "net"),
)
"""Modules that are no stage themselves but hold them."""

_Unit = tuple[str, nn.Module]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network with a head of any kind, and the facts about it that its code does not tell.

    Attributes:
        network: The network, which takes the outputs of `input`.
        head: Name of its last layer, a linear or a 1 x 1 convolution.
        stages: The stages from the input on; each is the names of modules or parameters that freeze together.
        input: The layer before the network, from stored samples to its inputs.
        whole: Names of modules that compute as one: stages within them are not called by themselves.
        tokenizer: The tokenizer that its samples were made by, as JSON; empty where they are no texts.
        code: Text that changes with the code of a person's own network; empty for those of a release.
        weights_url: The address of its published weights, if there are any.
        weights_path: Finds the file of published weights, given the folder that keeps them; None where `weights_url`
            tells it.
        weights_classes: The classes of the published head.
        renamed: Gives the tensors of a file in another published form the network's names and shapes; None where one form
            alone is known.
    """

    network: nn.Module
    head: str
    stages: tuple[tuple[str, ...], ...]
    input: InputLayer
    whole: tuple[str, ...] = ()
    tokenizer: str = ""
    code: str = ""
    weights_url: str | None = None
    weights_path: Callable[[Path | None], Path] | None = None
    weights_classes: tuple[str, ...] = ()
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None


def find_head(network: nn.Module, classes: int) -> str:
    """Return the name of the last layer with an output for each class.

    Raises:
        LookupError: There is none.
    """
    heads = [
        name
        for name, module in _modules(network)
        if (isinstance(module, nn.Linear) and module.out_features == classes)
        or (isinstance(module, nn.Conv2d) and module.out_channels == classes)
    ]
    if not heads:
        raise LookupError(f"no linear or convolutional layer has {classes} outputs")
    # The last one: auxiliary classifiers, which have as many outputs, stand before it.
    return heads[-1]


def find_stages(network: nn.Module, head: str) -> tuple[tuple[str, ...], ...]:
    """Group a network's parameters, but the head's, into stages in the order in which pictures pass them.

    A block is a stage. Single layers in a row are one together, up to the next pooling or block, and a
    normalisation at the end belongs to the block before it. Parameters that stand alone (class tokens, position
    embeddings) belong to the first stage.
    """
    stages: list[list[str]] = []
    open_row = False
    for name, module in _units(network, head, ""):
        if name == head:
            continue
        if not any(True for _ in module.parameters()):
            open_row = open_row and not isinstance(module, nn.MaxPool2d)
            continue
        # A row of single layers, such as a stem, makes one stage: to freeze a convolution without the normalisation
        # behind it is not a choice worth having.
        single = not any(True for _ in module.children())
        trailing = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) and bool(stages)
        if single and (open_row or trailing):
            stages[-1].append(name)
        else:
            stages.append([name])
            open_row = single
    if lone := _lone_parameters(network, head):
        stages[:1] = [[*(stages[0] if stages else ()), *lone]]
    return tuple(tuple(stage) for stage in stages)


def outermost(
    module: nn.Module, prefix: str, stage_of: Mapping[str, int], stage: int
) -> Iterator[str]:
    """Yield the modules that are all of one stage, and the parameters of it that stand alone.

    Args:
        module: The module that is looked into.
        prefix: Its name with a dot; empty for the network.
        stage_of: The stage of each parameter, by its name in the network.
        stage: The stage.
    """
    for name, _ in module.named_parameters(recurse=False):
        if stage_of.get(f"{prefix}{name}") == stage:
            yield f"{prefix}{name}"
    for name, child in module.named_children():
        inner = f"{prefix}{name}."
        found = {stage_of.get(f"{inner}{each}") for each, _ in child.named_parameters()}
        if found == {stage}:
            yield f"{prefix}{name}"
        elif stage in found:
            yield from outermost(child, inner, stage_of, stage)


def _units(module: nn.Module, head: str, prefix: str) -> Iterator[_Unit]:
    for name, child in module.named_children():
        if _is_opened(f"{prefix}{name}", child, head):
            yield from _units(child, head, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _is_opened(name: str, module: nn.Module, head: str) -> bool:
    """Whether a module is looked into: a container of stages, or whatever the head is in."""
    holds = any(True for _ in module.children())
    return holds and (name.rsplit(".", 1)[-1] in _CONTAINERS or head.startswith(f"{name}."))


def _lone_parameters(network: nn.Module, head: str) -> list[str]:
    opened = {""}
    for name, module in _modules(network):
        holder = name.rpartition(".")[0]
        if holder in opened and _is_opened(name, module, head):
            opened.add(name)
    return [
        f"{holder}.{name}".lstrip(".")
        for holder, module in _modules(network)
        if holder in opened
        for name, _ in module.named_parameters(recurse=False)
    ]


def _modules(network: nn.Module) -> Iterator[_Unit]:
    """Yield every module with its name; torch leaves the type half open."""
    return cast(Iterator[_Unit], network.named_modules())
