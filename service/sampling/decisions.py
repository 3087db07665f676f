"""One study's scheduler, and what it is yet to be told."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from service.domain.decisions import Decision
from service.domain.facts import Curve, TrialFacts
from service.sampling.scheduling.scheduler import Asked, Choice, GoOn, Scheduler, Stop


class Decisions:
    """Tells a scheduler what changed, in the order in which it did, and asks it. For one thread at a time.

    Args:
        scheduler: the study's scheduler.
        known: returns a trial as it is stored.
    """

    def __init__(self, scheduler: Scheduler, known: Callable[[int], TrialFacts | None]) -> None:
        self._scheduler = scheduler
        self._known = known
        self._unheard: list[TrialFacts] = []
        self._reported: int | None = None

    def hear(self, changed: Iterable[TrialFacts]) -> None:
        """Keep what changed for the next decision."""
        self._unheard.extend(changed)

    def choose(self, asked: Asked) -> Choice:
        """Return what a free worker is to do."""
        self._tell()
        return self._scheduler.decide(asked)

    def decide(self, asked: Asked, number: int, curve: Curve) -> Decision:
        """Return what becomes of trial `number`, which has just reported so that this is its curve.

        Raises:
            LookupError: the history has no such trial.
        """
        self._tell()
        trial = self._known(number)
        if trial is None:
            raise LookupError(f"trial {number} reported and is not known")
        # The report is stored with the decision, so that the history does not have it yet.
        self._reported = number
        self._scheduler.learn([replace(trial, curve=curve)])
        match self._scheduler.decide(asked):
            case GoOn(number=chosen, runs_until=runs_until, reason=reason) if chosen == number:
                return Decision("continue", runs_until, reason)
            case Stop(reason):
                return Decision("stop", trial.runs_until, reason)
            case _:
                reason = self._scheduler.reason_to_pause(number)
                return Decision("pause", trial.runs_until, reason)

    def _tell(self) -> None:
        unheard, self._unheard = self._unheard, []
        reported, self._reported = self._reported, None
        if reported is not None and all(one.number != reported for one in unheard):
            # What was decided last was not stored.
            unheard.extend(filter(None, [self._known(reported)]))
        self._scheduler.learn(unheard)
