"""Random changes to training texts."""

import torch
from torch import Tensor

from worker.training.errors import NoUnknownWord
from worker.training.model.card import TokenCard


class WordDropout:
    """Reads some word pieces as unknown ones (Bowman et al., 2016, https://arxiv.org/abs/1511.06349, section 3.1).

    Args:
        card: The input layer of the network.
        probability: The probability that a word piece is changed; padding, and what begins or ends a text, never is.

    Raises:
        NoUnknownWord: The vocabulary has no piece that stands for an unknown one.
    """

    def __init__(self, card: TokenCard, probability: float) -> None:
        if card.unk_id is None:
            raise NoUnknownWord
        self._unknown = card.unk_id
        self._spared = [
            one for one in (card.pad_id, card.cls_id, card.sep_id) if one is not None
        ]
        self._probability = probability

    def __call__(self, stored: Tensor) -> Tensor:
        """Return the changed texts `(N, L)`; `stored` is not changed."""
        words = stored.to(torch.int64)
        # Drawn for padding too: which words are dropped then depends on the rows alone, not on the length of others.
        dropped = (torch.rand(words.shape) < self._probability).to(words.device)
        for spared in self._spared:
            dropped &= words != spared
        return words.masked_fill_(dropped, self._unknown)
