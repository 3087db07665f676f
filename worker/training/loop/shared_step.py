"""A step that several ranks take together: each computes the gradients of a part of the batch, and all move alike.

The gradients are those of the whole batch's mean loss, whatever the sizes of the parts, because each part's loss counts
by its rows. A part is a micro-batch like those of one device, and batch normalisation takes its statistics over it: so a
training on two devices is one on a single device whose batches are computed in halves, but for the numbers that dropout
draws.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] - the only common base

from worker.training import seeding
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.rank_errors import Left, RankFailed
from worker.training.device.ranks import Kind, Ranks, Word
from worker.training.model.freezing import Freezing

PartOfLoss = Callable[[slice, AbstractContextManager[None]], Tensor]
"""Computes the gradients of some rows of a batch; returns their part of the batch's mean loss."""


class SharedEpoch:
    """The steps of one epoch that the ranks take together.

    Made anew for each epoch, since another epoch may train other parameters.

    Args:
        ranks: All processes of the training.
        freezing: The network, which is ready for the epoch, and the recipe.
        micro_batches: The number of samples that this rank's device computes at once.
        epoch: The number of the epoch, from 0.
        seed: The seed of the epoch.
        device: The device of this rank.
    """

    def __init__(
        self,
        ranks: Ranks,
        freezing: Freezing,
        micro_batches: MicroBatches,
        *,
        epoch: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._ranks = ranks
        self._micro_batches = micro_batches
        self._parameters = [p for p in freezing.model.network.parameters() if p.requires_grad]
        self._norms = freezing.moving_statistics(epoch)
        self._seed = seed
        self._device = device
        # Of a batch that is full, each rank has this many rows at most. A smaller batch may leave ranks without any: a
        # part is not made smaller than those of the full one, nor than batch normalisation can compute.
        largest = math.ceil(freezing.recipe.batch_size / ranks.count)
        self._parts = MicroBatches(largest, least=micro_batches.least)

    def leave(self, error: Exception | None = None) -> None:
        """Tell the others, which are at the next step, that this rank does not take it."""
        self._ranks.exchange(Word(Kind.LEAVES if error is None else Kind.FAILED), error)

    def take(self, position: int, count: int, compute: PartOfLoss) -> Tensor:
        """Compute this rank's part of a batch; afterwards every rank has the gradients of the whole.

        Args:
            position: The number of the step within the epoch, from 0.
            count: The number of rows in the batch.
            compute: Computes the gradients of some of its rows, given as a slice; returns their share of the loss. What
                it draws for these rows alone, such as dropout, it draws in the context that it is given, and what it
                draws for the batch as a whole outside of it: so the generators of all ranks stay together.

        Returns:
            The mean loss of the batch, a scalar.

        Raises:
            RankFailed: Another rank has met an error.
            Left: The first rank has left the epoch.
        """
        part = self._part(count)
        kept = [statistic.clone() for norm in self._norms for statistic in _statistics_of(norm)]
        try:
            loss = compute(part, self._drawing(position)).float()
        except Exception as error:
            self._ranks.exchange(Word(Kind.FAILED), error)
            raise
        passes, has = self._agree(part)
        self._add_up(loss, kept, passes, has)
        return loss

    def _part(self, count: int) -> slice:
        parts = self._parts.cut(count)
        return parts[self._ranks.rank] if self._ranks.rank < len(parts) else slice(count, count)

    def _drawing(self, position: int) -> AbstractContextManager[None]:
        own = seeding.derive(self._seed, "rank", self._ranks.rank, position)
        return seeding.seeded(own, self._device)

    def _agree(self, part: slice) -> tuple[list[int], list[bool]]:
        """Return how many micro-batches each rank has computed, and which parameters any of them has a gradient of."""
        size = part.stop - part.start
        own = len(self._micro_batches.cut(size)) if size else 0
        has = [parameter.grad is not None for parameter in self._parameters]
        words = self._ranks.exchange(Word(Kind.READY, own, zlib.crc32(bytes(has))))
        _see_that_all_are_here(words)
        if len({word.second for word in words}) > 1:
            has = self._ranks.any_of(has)
        return [word.number for word in words], has

    def _add_up(
        self, loss: Tensor, kept: Sequence[Tensor], passes: Sequence[int], has: Sequence[bool]
    ) -> None:
        gradients = list(self._gradients(has))
        statistics = [each for norm in self._norms for each in _statistics_of(norm)]
        shares = [
            share
            for norm in self._norms
            for share in [_Share.of(norm.momentum, passes, self._ranks.rank)] * 2
        ]
        for statistic, old, share in zip(statistics, kept, shares, strict=True):
            statistic.mul_(share.own).sub_(old, alpha=share.of_old)
        self._ranks.add_up([*gradients, *statistics, loss])
        for statistic, old, share in zip(statistics, kept, shares, strict=True):
            statistic.add_(old, alpha=share.old)
        for norm in self._norms:
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(sum(passes) - passes[self._ranks.rank])

    def _gradients(self, has: Sequence[bool]) -> Iterator[Tensor]:
        for parameter, one_has in zip(self._parameters, has, strict=True):
            if one_has and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                yield parameter.grad


def _statistics_of(norm: _BatchNorm) -> Iterator[Tensor]:
    if norm.running_mean is not None and norm.running_var is not None:
        yield norm.running_mean
        yield norm.running_var


def _see_that_all_are_here(words: Sequence[Word]) -> None:
    if words[0].kind is not Kind.READY:
        raise Left
    for rank, word in enumerate(words):
        if word.kind is not Kind.READY:
            raise RankFailed(rank, "crashed", "it has left the epoch before the others")


@dataclass(frozen=True, slots=True)
class _Share:
    """How one rank's running statistics count in those that follow from all ranks' passes, one after the other.

    A pass moves a statistic r to (1 - m) r + m s. So p passes of a rank move it to (1 - m)^p r + b, and the ranks'
    passes, in the order of the ranks, to the sum of each one's b times (1 - m) to the number of passes after its own.
    """

    own: float
    """The factor of what this rank has come to."""
    of_old: float
    """The factor, to be taken off, of what it began the step with."""
    old: float
    """The factor of what all began with, to be added to the sum of the ranks' parts."""

    @classmethod
    def of(cls, momentum: float | None, passes: Sequence[int], rank: int) -> "_Share":
        if momentum is None:
            # The plain mean of all passes so far: those of a step then count nearly alike.
            return cls(passes[rank] / sum(passes), 0.0, 0.0)
        kept = 1 - momentum
        own = kept ** sum(passes[rank + 1 :])
        return cls(own, own * kept ** passes[rank], kept ** sum(passes))
