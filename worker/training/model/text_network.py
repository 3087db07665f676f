"""What every network for texts has here, whoever wrote its layers: vectors of tokens, a pooling, a head.

The last feature of each token says whether it is one (1) or padding (0), so that one tensor is all that the rest needs.
"""

import torch
from torch import Tensor, nn

from trimtab.contract.recipe import Pooling as PoolingName
from worker.training.model.card import EncoderCard, LibraryEncoderCard


class Pooling(nn.Module):
    """From the tokens' vectors to one for each text.

    Attributes:
        how: `cls` takes the first token's, `mean` and `max` those of all tokens that are no padding.
    """

    how: PoolingName = "mean"

    def forward(self, marked: Tensor) -> Tensor:
        """`(N, L, width + 1)` to `(N, width)`."""
        x, real = unmark(marked)
        match self.how:
            case "cls":
                return x[:, 0]
            case "mean":
                # In full: half precision does not count above 256.
                return (x * real).float().sum(dim=1) / real.float().sum(dim=1)
            case "max":
                return x.masked_fill(real == 0, torch.finfo(x.dtype).min).amax(dim=1)


class TextNetwork(nn.Module):
    """A network from what a `TokenInput` makes, `(N, 2, L)`, to logits `(N, classes)`.

    Attributes:
        shape: The description of its layers: enough to build it.
        pooling: The layer from the tokens' vectors to one.
        head: Its last layer.
    """

    shape: EncoderCard | LibraryEncoderCard
    pooling: Pooling
    head: nn.Module

    def redraw(self, module: nn.Module) -> None:
        """Draw all weights in one of its modules anew, as they are before any training."""
        raise NotImplementedError

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the last layer's vectors `(N, L, width)` of `(N, 2, L)`; those of padding mean nothing."""
        raise NotImplementedError


def mark(x: Tensor, real: Tensor) -> Tensor:
    """Put beside the vectors `(N, L, width)` of tokens which of them are no padding, `(N, L, 1)`."""
    return torch.cat((x, real.to(x.dtype)), dim=2)


def unmark(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `mark` was given."""
    return marked[..., :-1], marked[..., -1:]
