"""How many threads a CPU computes with: the number orders the sums, so that a training keeps it for its bits."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

Work = Literal["features", "steps"]
"""What is computed: what frozen stages make of the data, or the steps of the training with its validation."""
Attempt = Callable[[int], float]
"""Does one piece of work with a number of threads; returns the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Threads:
    """The numbers of threads that a training computes with.

    Attributes:
        features: The number that computes what frozen stages make of the data.
        steps: The number that computes the steps, and the validation after each epoch.
    """

    features: int
    steps: int


class ThreadChoice(Protocol):
    """Decides how many threads compute."""

    @property
    def most(self) -> int:
        """The largest number that it would choose; a resumed training is given no more."""
        ...

    def known(self, work: Work, /) -> int | None:
        """Return the number for this work; None if it is to be tried."""
        ...

    def choose(self, work: Work, attempt: Attempt, /) -> int:
        """Try this work; return the number that it is to be computed with."""
        ...


class AsTorchSays:
    """Takes the number that torch computes with at the time, and tries nothing."""

    @property
    def most(self) -> int:
        """The number that torch computes with."""
        return torch.get_num_threads()

    def known(self, work: Work, /) -> int:
        """Return the number that torch computes with."""
        return self.most

    def choose(self, work: Work, attempt: Attempt, /) -> int:
        """Return the number that torch computes with."""
        return self.most


@contextmanager
def computing_on(count: int) -> Generator[None]:
    """Let torch compute on `count` threads inside."""
    # The number belongs to the whole process, so that it is put back also where the work fails.
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
