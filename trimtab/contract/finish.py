"""What a study makes of its best trials at its end, and what that costs of its budget."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab.contract.message import Flag, Int, Message

FEWEST_TO_REFIT = 4
"""A study of fewer trials needs all of them for its search, unless its document says otherwise."""
FEWEST_TO_AVERAGE = 8
"""From this budget on, the three best make one model where a document leaves that open (`./run bench outcome`)."""

WhichModel = Literal["handed_over", "validated"]
"""The model that a study hands over, or its winner as it was validated."""


class Finish(Message):
    """How the model that is handed over comes from the best trials."""

    refit: Flag = Field(
        default=True,
        description="Train the winner's recipe anew on train and validation together, for as many epochs.",
    )
    ensemble: Annotated[Int, Field(ge=1, le=10)] = Field(
        default=1,
        description="Average the probabilities of this many of the best trials; 1: the best alone.",
    )
    refits: Annotated[Int, Field(ge=1, le=10)] | None = Field(
        default=None,
        description="Refit this many of these trials, the best first. Where that is not all of them, the average is of the refits, which count twice, and of all of them as they were validated. Null: all.",
    )
    seeds: Annotated[Int, Field(ge=1, le=10)] = Field(
        default=1,
        description="Refit each trial with this many seeds, the first its own; their probabilities are averaged too.",
    )

    @property
    def trainings(self) -> int:
        """The number of refits that it takes, seeds included; each is paid from the study's budget like a trial."""
        return (self.refits or self.ensemble) * self.seeds if self.refit else 0

    @property
    def fewest_trials(self) -> int:
        """The least budget that pays for it: every refit, and as many trials as it needs to choose from."""
        return self.trainings + self.ensemble


def usual(trials: int, *, grid: bool, alone: bool = False) -> Finish:
    """Return what a study does that leaves it open.

    Args:
        trials: The number of whole trainings that the study's budget pays.
        grid: Whether it walks a grid, of which a refit would cost a cell.
        alone: Whether the model is to be that of one trial, since an ensemble would cost its users more.
    """
    if grid:
        return Finish(refit=False)
    if trials >= FEWEST_TO_AVERAGE and not alone:
        return Finish(refit=True, ensemble=3, refits=1)
    return Finish(refit=trials >= FEWEST_TO_REFIT)


class Refits(Message):
    """How far the trainings on train and validation together are that a study's finish takes."""

    total: int = 0
    """The budget pays each of them like a trial."""
    running: int = 0
    completed: int = 0
    failed: int = 0
    """Those that were given up or cancelled: the study goes on without them."""

    @property
    def are_over(self) -> bool:
        """Whether none is left to train."""
        return self.completed + self.failed >= self.total
