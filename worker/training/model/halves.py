"""A network cut in two after its frozen stages: a prefix that is computed once, and a rest that is trained."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, fx, nn


class Halves:
    """A network cut in two.

    Attributes:
        prefix: The frozen half, from the network's inputs to the features that cross the cut, `(N, ...)`.
        layer: The linear layer that the other half is, if it is no more than that.
        marks_padding: Whether the last feature of each token says that it is no padding, where tokens cross the cut.
        bytes_each: Bytes of the features of one sample, by its shape and the precision, as far as known.
    """

    def __init__(
        self,
        prefix: Callable[[Tensor], Tensor],
        rest: Callable[[Tensor], Tensor],
        *,
        marks_padding: bool = False,
    ) -> None:
        self.prefix = prefix
        self.marks_padding = marks_padding
        self.layer = _lone_layer(rest) if isinstance(rest, fx.GraphModule) else None
        self.bytes_each: dict[tuple[int | str, ...], int] = {}
        self._rest = rest

    def rest(self, stored: Tensor) -> Tensor:
        """Return the logits `(N, classes)` of features as `kept` returns them."""
        # A view in the order of dimensions that convolutions expect; in memory the channels stay last.
        crossing = stored.permute(0, 3, 1, 2) if stored.dim() == 4 else stored
        if self.marks_padding and stored.dim() == 3:
            # Counted, not summed: half precision has no odd numbers above 256.
            crossing = stored[:, : int((stored[..., -1] > 0).sum(dim=1).max())]
        return self._rest(crossing)

    def kept(self, taken: Tensor) -> Tensor:
        """Return the features of a batch of the network's inputs: vectors `(N, F)`, or maps `(N, H, W, C)`."""
        # Convolutions compute with channels last, so that this is how maps lie in memory. Kept in the order of their
        # dimensions they would be copied into another layout here, and back again at every step.
        crossing = self.prefix(taken)
        return crossing.permute(0, 2, 3, 1) if crossing.dim() == 4 else crossing


def _lone_layer(rest: fx.GraphModule) -> nn.Linear | None:
    crossing, *_, output = rest.graph.nodes
    step = output.args[0]
    # Heads that may be convolutions flatten what comes out; where they are linear, an identity stands there.
    while isinstance(module := _called(rest, step), nn.Identity):
        step = cast(fx.Node, step).args[0]
    if module is None or cast(fx.Node, step).args != (crossing,):
        return None
    # Exactly a linear layer: a subclass or a hook may compute something else, and `HeadStack` computes without either.
    return module if type(module) is nn.Linear and not _has_hooks(module) else None


def _called(graph: fx.GraphModule, step: object) -> nn.Module | None:
    """The module whose outputs a step of a graph is; None where it is something else."""
    if not isinstance(step, fx.Node) or step.op != "call_module":
        return None
    return graph.get_submodule(str(step.target))


def _has_hooks(module: nn.Module) -> bool:
    own = vars(module)
    return bool(own["_forward_hooks"] or own["_forward_pre_hooks"])
