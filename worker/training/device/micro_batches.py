"""Micro-batches: the parts of a batch that a device computes in turn, smaller after it ran out of memory."""

import gc
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from worker.training.errors import is_out_of_memory

T = TypeVar("T")


class MicroBatches:
    """Cuts batches into micro-batches that fit, and into smaller ones whenever the device runs out of memory.

    Args:
        largest: The size of the largest micro-batch to begin with, in pictures; None is the whole batch.
        least: The smallest size that is tried: two where batch normalisation needs more than one picture.
    """

    def __init__(self, largest: int | None = None, *, least: int = 1) -> None:
        self.largest = largest
        self.has_shrunk = False
        self.least = least

    def run(self, count: int, work: Callable[[list[slice]], T]) -> T:
        """Call `work` with the micro-batches of a batch, and again with smaller ones each time that memory runs out.

        Args:
            count: The number of pictures in the batch.
            work: Computes the whole batch, one micro-batch after the other. It is called again from the beginning, so
                that what it did before memory ran out must not matter.

        Raises:
            RuntimeError: The device's own error, when the smallest micro-batch does not fit either.
        """
        while True:
            try:
                return work(self.cut(count))
            except Exception as error:
                if not (is_out_of_memory(error) and self._shrink(count)):
                    raise
            # Outside of the handler: inside it, the error still holds the tensors of the failed try.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def each(self, batch: Tensor, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return the results of `compute` for the micro-batches of a batch, in order.

        Args:
            batch: The batch, cut along its first dimension.
            compute: A function of one micro-batch without side effects.

        Raises:
            RuntimeError: The device's own error, when the smallest micro-batch does not fit either.
        """
        return self.run(
            len(batch),
            lambda micro_batches: [
                compute(batch[micro_batch]) for micro_batch in micro_batches
            ],
        )

    def cut(self, count: int) -> list[slice]:
        """Return the micro-batches of a batch, nearly equal in size, each of at least `least` pictures if possible."""
        size = min(self.largest or count, count)
        number = max(1, min(-(-count // size), count // self.least))
        edges = [round(position * count / number) for position in range(number + 1)]
        return [slice(start, end) for start, end in pairwise(edges)]

    def _shrink(self, count: int) -> bool:
        """Halve the micro-batches; false where they are at the smallest size."""
        size = min(self.largest or count, count)
        if size <= self.least:
            return False
        self.largest = max(self.least, -(-size // 2))
        self.has_shrunk = True
        return True
