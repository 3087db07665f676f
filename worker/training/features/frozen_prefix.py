"""The frozen beginning of a network: cut off, so that what it computes of a sample is computed once.

The network is traced (torch.fx) with its stages as the smallest units. What depends on the sample and on frozen
stages alone, and on nothing random, is the prefix; the rest is trained. Both halves call the network's own modules,
so that prefix and rest together are the network, bit by bit.
"""

import operator
from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from worker.training.model import freezing, hf_halves
from worker.training.model.backbones import Backbone, is_within
from worker.training.model.halves import Halves
from worker.training.model.hf_network import LibraryEncoder

# Pure is what is named here, and nothing else. Whether other code draws random numbers, or behaves otherwise in
# training, cannot be seen from outside: a layer that is wrongly kept out costs time, one that is wrongly let in costs
# correct results.
_PURE_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_PURE_FILES = ("timm.layers.adaptive_avgmax_pool", "timm.layers.activations")
"""Modules of Python all of whose layers are pure, by name: nobody imports them who has none of their models."""
_PURE_FUNCTIONS: tuple[object, ...] = (
    functional.relu,
    functional.relu6,
    functional.silu,
    functional.hardswish,
    functional.adaptive_avg_pool2d,
    functional.avg_pool2d,
    functional.max_pool2d,
    torch.relu,
    torch.square,
    torch.flatten,
    torch.mean,
    torch.cat,
    torch.unsqueeze,
    torch._assert,  # pyright: ignore[reportPrivateUsage] - what torchvision's models check shapes with
    operator.add,
    operator.mul,
    cast(object, operator.truediv),  # Typed half open, these two.
    cast(object, operator.floordiv),
    operator.eq,
    operator.getitem,
    getattr,
)
_PURE_METHODS = frozenset(
    {"flatten", "mean", "reshape", "view", "permute", "transpose", "expand", "size", "dim"}
)
"""Methods of tensors. Like the modules and functions above, they draw no random numbers, and do the same in training
as in evaluation."""

_EXAMPLES = 2
"""The number of samples that a cut is tried with: the least that batch normalisation takes in training mode."""


def cut(backbone: Backbone, frozen_stages: int) -> Halves | None:
    """Cut a network after its frozen stages; None where nothing is frozen or its code has no such seam.

    Args:
        backbone: The backbone, its parameters frozen and its frozen modules in evaluation mode.
        frozen_stages: The number of stages that are frozen.
    """
    # Tracing takes as long as many steps of a small head, and a backbone is kept from trial to trial.
    if frozen_stages not in backbone.halves:
        backbone.halves[frozen_stages] = _cut(backbone, frozen_stages)
    return backbone.halves[frozen_stages]


def _cut(backbone: Backbone, frozen_stages: int) -> Halves | None:
    frozen = freezing.frozen_modules(backbone, frozen_stages)
    if not frozen:
        return None
    taken = backbone.input(backbone.input.example(_EXAMPLES).to(_device(backbone)))
    halves = _found(backbone, frozen_stages, frozen, taken)
    # Each is a reading of somebody's code. Only a comparison shows that it computes the same.
    return halves if halves is not None and _is_the_network(halves, backbone, taken) else None


def _found(
    backbone: Backbone, frozen_stages: int, frozen: Collection[str], taken: Tensor
) -> Halves | None:
    network = backbone.network
    if isinstance(network, LibraryEncoder) and frozen_stages < len(backbone.stages):
        return hf_halves.cut(network, frozen_stages, taken)
    graph = _traced(backbone)
    if graph is None:
        return None
    settled = _settled(graph, network, frozen)
    # A settled value that something unsettled uses crosses the cut. Exactly one can be kept as the input of the rest: a
    # shortcut around the cut would need a second one. And the samples themselves are nothing worth keeping.
    crossing = [node for node in graph.nodes if node in settled and set(node.users) - settled]
    if len(crossing) != 1 or crossing[0].op == "placeholder":
        return None
    return _halves(graph, backbone, settled, crossing[0])


class _Alone(nn.Module):
    """Calls a network with samples alone: whatever else its `forward` takes, such as a mask, has its default."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, taken: Tensor) -> Tensor:
        return cast(Tensor, self.network(taken))


_INSIDE = "network."
"""The beginning of the names of a network's modules within `_Alone`."""


class _Tracer(fx.Tracer):
    """Looks no deeper than stages and single layers: what they do in training is decided when they are called."""

    def __init__(self, network: nn.Module, stages: Collection[str]) -> None:
        super().__init__()
        self._network = network
        self._stages = frozenset(f"{_INSIDE}{name}" for name in stages)

    def graph_of_network(self) -> fx.Graph:
        """Return the network's graph, with its own names of modules and parameters."""
        graph = self.trace(_Alone(self._network))
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr"):
                node.target = str(node.target).removeprefix(_INSIDE)
        return graph

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m is self._network:
            return False
        childless = not any(True for _ in m.children())
        known = super().is_leaf_module(m, module_qualified_name)
        return childless or known or module_qualified_name in self._stages


def _traced(backbone: Backbone) -> fx.Graph | None:
    """The network's graph; None where its code cannot be traced, or is not the same in training and evaluation."""
    # What computes as one is called as one, and nobody looks into it.
    stages = [*(name for names in backbone.stages for name in names), *backbone.whole]
    network = backbone.network
    was_training = network.training
    # A forward may ask `self.training`, and the tracer sees only the branch that is taken. Traced in both modes, such a
    # network shows itself by two graphs that differ: what was computed once would then be wrong in one of the modes.
    graphs: list[fx.Graph] = []
    try:
        for training in (True, False):
            # Of the network's outermost module alone: those within keep their modes.
            network.training = training
            graphs.append(_Tracer(network, stages).graph_of_network())
    except Exception:  # noqa: BLE001 - other people's code, met by a tracer: whatever it raises, it cannot be cut
        return None
    finally:
        network.training = was_training
    return graphs[0] if str(graphs[0]) == str(graphs[1]) else None


def _settled(graph: fx.Graph, network: nn.Module, frozen: Collection[str]) -> set[fx.Node]:
    """Return the nodes that are functions of the sample and of frozen weights alone."""
    # A graph's nodes are in the order of computation, so that one walk finds every node after its inputs.
    settled: set[fx.Node] = set()
    for node in graph.nodes:
        if all(each in settled for each in node.all_input_nodes) and _is_pure(
            node, network, frozen
        ):
            settled.add(node)
    return settled


def _is_pure(node: fx.Node, network: nn.Module, frozen: Collection[str]) -> bool:
    name = str(node.target)
    match node.op:
        case "placeholder":
            return True
        case "get_attr":
            return is_within(name, frozen)
        case "call_module":
            module = network.get_submodule(name)
            return is_within(name, frozen) or _does_nothing_random(module)
        case "call_function":
            return node.target in _PURE_FUNCTIONS
        case "call_method":
            return name in _PURE_METHODS
        case _:
            return False


def _does_nothing_random(module: nn.Module) -> bool:
    # Published networks have dropout of 0 where they have none: it stands for the layer in the code.
    if isinstance(module, nn.Dropout):
        return module.p == 0
    if type(module).__module__ in _PURE_FILES:
        return not any(True for _ in module.parameters())
    return isinstance(module, _PURE_MODULES)


def _halves(
    graph: fx.Graph, backbone: Backbone, settled: Collection[fx.Node], crossing: fx.Node
) -> Halves:
    # The nodes are copied, the modules are not: both halves call those of the network, whose weights training moves.
    first, second = fx.Graph(), fx.Graph()
    before: dict[fx.Node, fx.Node] = {}
    after = {crossing: second.placeholder("crossing")}
    for node in graph.nodes:
        if node.op == "output":
            second.output(fx.map_arg(node.args[0], after.__getitem__))
        elif node in settled:
            before[node] = first.node_copy(node, before.__getitem__)
        else:
            after[node] = second.node_copy(node, after.__getitem__)
    first.output(before[crossing])
    module = cast(Any, fx.GraphModule)
    network = backbone.network
    return Halves(
        module(network, first),
        module(network, second),
        marks_padding=backbone.shape is not None,
    )


def _device(backbone: Backbone) -> torch.device:
    return next(backbone.head.parameters()).device


def _is_the_network(halves: Halves, backbone: Backbone, taken: Tensor) -> bool:
    """Whether both halves together give the network's own logits of an example, and the cut is a batch."""
    # Each module's own mode is put back: frozen ones are in evaluation mode while the others train.
    modes = {module: module.training for module in backbone.network.modules()}
    backbone.network.eval()
    try:
        with torch.no_grad():
            kept = cast(object, halves.kept(taken))
            if not isinstance(kept, Tensor) or kept.dim() == 0 or len(kept) != _EXAMPLES:
                return False
            return torch.equal(halves.rest(kept), cast(Tensor, backbone.network(taken)))
    finally:
        for module, training in modes.items():
            module.training = training
