"""What one rank of a training on several devices hears of the others' errors.

Left           (Interrupted) the first rank has left the epoch
RankFailed     another rank has met an error, whose kind it has
RanksUnlike    (TrainingError) the ranks do not begin with the same weights
"""

from typing import ClassVar

from trimtab.contract.trials import FailureKind
from worker.training.errors import Interrupted, TrainingError, is_out_of_memory


def kind_of(error: Exception) -> FailureKind:
    """Return how a trial fails that meets an error: by the error's own `kind` if it has one, else by its type."""
    kind: FailureKind | None = getattr(error, "kind", None)
    if kind is not None:
        return kind
    if is_out_of_memory(error):
        return "oom"
    return "infrastructure" if isinstance(error, OSError) else "crashed"


class Left(Interrupted):
    """The first rank of a training on several devices has left the epoch, and this rank leaves with it."""


class RankFailed(Exception):
    """Another rank of a training on several devices has met an error.

    Args:
        rank: The number of that rank.
        kind: The kind of the error that it has met.
        message: The words of that error.
    """

    def __init__(self, rank: int, kind: str, message: str) -> None:
        super().__init__(f"on device {rank + 1} of the trial's: {message}")
        self.kind = kind


class RanksUnlike(TrainingError):
    """The ranks of a training on several devices do not begin with the same weights."""

    kind: ClassVar[FailureKind] = "crashed"

    def __init__(self) -> None:
        super().__init__(
            "the devices of this trial did not begin with the same weights: either the file of weights was replaced "
            "while they were loaded, or the backbone draws its first weights otherwise than by torch's generator"
        )
