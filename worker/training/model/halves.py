"""A network cut in two after its frozen stages: what is computed once, and what is trained."""

from typing import cast

from torch import Tensor, fx, nn


class Halves:
    """A network cut in two.

    Attributes:
        prefix: Computes what crosses the cut, `(N, ...)`, from what the network takes.
        rest: Computes the logits from there.
        layer: The linear layer that the rest is, if it is no more than that.
        bytes_each: Size of what is kept of one sample, by its shape and the precision, as far as known.
    """

    def __init__(self, prefix: fx.GraphModule, rest: fx.GraphModule) -> None:
        self.prefix = prefix
        self.layer = _lone_layer(rest)
        self.bytes_each: dict[tuple[int | str, ...], int] = {}
        self._rest = rest

    def rest(self, stored: Tensor) -> Tensor:
        """Return the logits of what `kept` made of the prefix's output."""
        crossing = stored.permute(0, 3, 1, 2) if stored.dim() == 4 else stored
        return cast(Tensor, self._rest(crossing))

    def kept(self, taken: Tensor) -> Tensor:
        """Return what crosses the cut of what the network takes, maps with their channels last as they lie in memory."""
        crossing = cast(Tensor, self.prefix(taken))
        return crossing.permute(0, 2, 3, 1) if crossing.dim() == 4 else crossing


def _lone_layer(rest: fx.GraphModule) -> nn.Linear | None:
    crossing, *steps, _ = rest.graph.nodes
    if len(steps) != 1 or steps[0].op != "call_module" or steps[0].args != (crossing,):
        return None
    module = rest.get_submodule(str(steps[0].target))
    return module if type(module) is nn.Linear and not _has_hooks(module) else None


def _has_hooks(module: nn.Module) -> bool:
    own = vars(module)
    return bool(own["_forward_hooks"] or own["_forward_pre_hooks"])
