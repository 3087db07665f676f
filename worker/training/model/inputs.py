"""The input layer: it stands before a network and turns stored samples into the network's inputs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from worker.training.model.card import InputCard


class InputLayer(nn.Module, ABC):
    """A model's first layer: from a stored batch to what the network takes.

    It has no parameters and is never trained: which numbers it holds belongs to the network, like its shape.

    Attributes:
        memory_format: The order in which the network's weights lie in memory while it is trained.
    """

    memory_format: torch.memory_format

    @abstractmethod
    def forward(self, stored: Tensor) -> Tensor:
        """Return what the network takes of stored samples `(N, ...)`."""

    def lengths(self, stored: Tensor) -> Tensor | None:
        """Return how much of each stored sample there is, `(N,)`, so that alike ones are computed together.

        None where all samples of a data set are of one size.
        """
        del stored
        return None

    @abstractmethod
    def example(self, count: int) -> Tensor:
        """Return a stored batch that the network is known to take, always the same one: to try a person's code with."""

    @abstractmethod
    def resized_to(self, shape: Sequence[int]) -> Self:
        """Return the layer of a network that was trained on stored samples of `shape` and is now given others."""

    @abstractmethod
    def card(self) -> InputCard:
        """Return all that `forward` depends on: kept in exported files, and part of the key of cached features."""
