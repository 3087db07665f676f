"""What a scheduler is asked and what it answers. It decides as if a worker were free, also when a trial reports.

A trial is given a number of epochs until which it runs. The report that reaches it is answered by a decision: go on, until
a further epoch; pause, because something else promises more; or stop. A claim is answered by the same decision: take up a
paused trial, or begin a new one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.facts import TrialFacts
from trimtab.contract.reasons import Reason
from trimtab.contract.search_space import Scalar


@dataclass(frozen=True, slots=True)
class Asked:
    """What a decision is made for.

    Attributes:
        last: the number of the trial that has just come to the end of what it was given; None at a claim.
        may_begin: whether the budget has a trial left to begin.
        next_number: the number that a new trial would get.
        in_flight: the values of trials that were proposed and that `learn` was not told of yet.
        seed: the seed of the decision's random numbers.
    """

    last: int | None
    may_begin: bool
    next_number: int
    in_flight: Sequence[Mapping[str, Scalar]]
    seed: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a new trial.

    Attributes:
        runs_until: the number of epochs at which it is decided on again; None: it runs to its end.
        values: the configuration; None: whatever the sampler proposes.
        proposed_by: the origin of the values; None: the sampler proposes.
        reason: why now, and why this configuration.
    """

    runs_until: int | None
    values: Mapping[str, Scalar] | None = None
    proposed_by: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class GoOn:
    """Give this trial further epochs: the one that reported, or one that is paused."""

    number: int
    runs_until: int | None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the trial that reported, as pruned. Only where `last` is given."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done until a running trial reports or ends."""


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is to be done any more: no trial may begin, none runs, and no paused one is worth its epochs."""


Choice = Begin | GoOn | Stop | Wait | Over


class Scheduler(Protocol):
    """A rule with a memory of one study. Called under the study's lock, never by two threads at once."""

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        ...

    def decide(self, asked: Asked) -> Choice:
        """Return what a free worker is to do.

        Where `last` is given, an answer other than `GoOn(last)` and `Stop` pauses that trial; the claim that follows is
        decided anew.
        """
        ...

    def reason_to_pause(self, number: int) -> Reason:
        """Return why a trial that `decide` has just passed over is paused, with the value that is expected at its end."""
        ...
