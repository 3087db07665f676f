"""Texts as an encoder takes them: word pieces and token types, as long as the longest text of the batch."""

import copy
from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor

from worker.training.model.card import TokenCard
from worker.training.model.inputs import InputLayer

_NARROW = 65_536
"""Vocabularies of up to so many word pieces are stored in 16 bits."""
_COUNTED_AT_ONCE = 16_384
"""Texts whose lengths are counted in one go."""


class TokenInput(InputLayer):
    """From stored word pieces `(N, L)`, padded at the end, to `(N, 2, l)`: word pieces, and token types beside them.

    `l` is the length of the batch's longest text: what no text has is cut off, and what the network has no position
    for as well.

    Args:
        card: The description of the layer.
    """

    memory_format = torch.contiguous_format

    def __init__(self, card: TokenCard) -> None:
        super().__init__()
        self._card = card

    def forward(self, stored: Tensor) -> Tensor:
        """Cut a batch to its longest text, and tell the second text of each pair from the first."""
        longest = int((stored != self._card.pad_id).sum(dim=1).max())
        longest = max(1, min(longest, self._card.positions))
        words = stored[:, :longest].to(torch.int64)
        return torch.stack((words, self._types(words)), dim=1)

    def lengths(self, stored: Tensor) -> Tensor:
        """Return the number of word pieces of each text, `(N,)`."""
        # A part at a time: the samples may be mapped from a file that is larger than the memory.
        parts = cast(tuple[Tensor, ...], stored.split(_COUNTED_AT_ONCE))
        return torch.cat([(part != self._card.pad_id).sum(dim=1) for part in parts])

    def _types(self, words: Tensor) -> Tensor:
        card = self._card
        if card.token_types < 2 or card.sep_id is None:
            return torch.zeros_like(words)
        is_end = (words == card.sep_id).to(torch.int64)
        # A separator belongs to the text that it ends.
        ended = (is_end.cumsum(dim=1) - is_end).clamp_(max=1)
        return ended.masked_fill_(words == card.pad_id, 0)

    def example(self, count: int) -> Tensor:
        """Return random word pieces, as pairs where the network tells them apart; the last text is shorter than the others."""
        random = torch.Generator().manual_seed(0)
        length = min(8, self._card.positions)
        words = torch.randint(self._card.vocab_size, (count, length), generator=random)
        words[words == self._card.pad_id] = (self._card.pad_id + 1) % self._card.vocab_size
        if self._card.sep_id is not None:
            words[:, length // 4] = self._card.sep_id
        words[-1, max(1, length // 2) :] = self._card.pad_id
        narrow = self._card.vocab_size <= _NARROW
        return words.to(torch.uint16 if narrow else torch.int32)

    def resized_to(self, shape: Sequence[int]) -> Self:
        """Return the layer as it is: a network for texts takes those of any length."""
        del shape
        return copy.copy(self)

    def card(self) -> TokenCard:
        """Describe the layer."""
        return self._card
