"""How many pictures a device computes at once: fewer after it has run out of memory."""

import gc
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from worker.training.errors import is_out_of_memory

T = TypeVar("T")


class MicroBatches:
    """Cuts batches into portions that fit, and into smaller ones whenever the device runs out of memory.

    Args:
        largest: Pictures in the largest portion to begin with; None is the whole batch.
        least: What is not cut any further: two, where batch normalisation needs more than one picture.
    """

    def __init__(self, largest: int | None = None, *, least: int = 1) -> None:
        self.largest = largest
        self.has_shrunk = False
        self._least = least

    def run(self, count: int, work: Callable[[list[slice]], T]) -> T:
        """Call `work` with the portions of a batch, again from its beginning as often as memory runs out.

        Args:
            count: Pictures in the batch.
            work: Computes the whole batch, portion by portion. What it did before it ran out must not matter.

        Raises:
            RuntimeError: The device's own, when the least portion does not fit either.
        """
        while True:
            try:
                return work(self.cut(count))
            except Exception as error:
                if not (is_out_of_memory(error) and self._shrink(count)):
                    raise
            # Not within the handler: until it is left, the error holds all that the failed try had computed.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def each(self, batch: Tensor, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return what `compute` makes of each portion of a batch, in order.

        Args:
            batch: Its first dimension is cut.
            compute: A function of the portion that leaves nothing behind.

        Raises:
            RuntimeError: As `run`.
        """
        return self.run(
            len(batch),
            lambda micro_batches: [
                compute(batch[micro_batch]) for micro_batch in micro_batches
            ],
        )

    def cut(self, count: int) -> list[slice]:
        """Return the portions of a batch, as equal as can be; none has one picture where two are the least."""
        size = min(self.largest or count, count)
        number = max(1, min(-(-count // size), count // self._least))
        edges = [round(position * count / number) for position in range(number + 1)]
        return [slice(start, end) for start, end in pairwise(edges)]

    def _shrink(self, count: int) -> bool:
        """Halve the portions; false where they are the least."""
        size = min(self.largest or count, count)
        if size <= self._least:
            return False
        self.largest = max(self._least, -(-size // 2))
        self.has_shrunk = True
        return True
