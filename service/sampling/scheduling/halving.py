"""Asynchronous successive halving: trials pause at rungs, and the best of each rung go on, as workers become free.

Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), MLSys 2020, algorithm 2; a paused trial goes on
from its checkpoint.
"""

from collections.abc import Callable, Iterable, Sequence

from service.domain.facts import TrialFacts
from service.sampling.scheduling.ladder import Ladder, Standing, epochs_done
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Over, Stop, Wait
from trimtab.contract.reasons import Reason
from trimtab.contract.trials import TrialState

COUNTED: frozenset[TrialState] = frozenset(
    {"queued", "running", "paused", "pruned", "completed"}
)
"""Trials that count on a rung. One that failed or was cancelled says nothing about how good others are."""


def counts(trial: TrialFacts) -> bool:
    """Return whether a trial is one that others are held against: not if it violates a constraint, however good it is."""
    return trial.state in COUNTED and trial.violation is None


class SuccessiveHalving:
    """A scheduler over one ladder or several, each trial on the ladder of its number.

    Args:
        rule: the word for the rule in reasons.
        ladders: the ladders.
        ladder_of: returns the place of a trial's ladder by the trial's number.
        wanted: the number of trials that have to complete, if any begin at all: what the study's model is made of.
    """

    def __init__(
        self,
        rule: str,
        ladders: Sequence[Ladder],
        ladder_of: Callable[[int], int],
        wanted: int,
    ) -> None:
        self._rule = rule
        self._ladders = ladders
        self._ladder_of = ladder_of
        self._wanted = wanted
        self._trials: dict[int, TrialFacts] = {}
        self._running: list[set[int]] = [set() for _ in ladders]
        self._completed: set[int] = set()

    def learn(self, trials: Iterable[TrialFacts]) -> None:
        """Take over trials that changed, as they are now."""
        for trial in trials:
            if (old := self._trials.get(trial.number)) is not None:
                self._forget(old)
            self._trials[trial.number] = trial
            self._note(trial)

    def decide(self, asked: Asked) -> Choice:
        """Return what a free worker is to do; the trial that has just reported counts as one that waits."""
        if asked.last is None:
            return self._choose(asked)
        last = self._trials[asked.last]
        if last.curve and last.curve[-1][1] is None:
            return Stop(self._diverged(last))
        return self._of_reported(asked, last)

    def reason_to_pause(self, number: int) -> Reason:
        """Return how the trial stands on its rung."""
        trial = self._trials[number]
        found = self._ladder(number).standing_of(trial)
        if found is None:
            text = "Others go on first."
        elif not found.goes_on:
            text = f"The first of {found.reached} at {_epochs(found.epochs)}: it takes more to tell which goes on."
            if found.reached > 1:
                text = (
                    f"Place {found.place} of {found.reached} at {_epochs(found.epochs)}{_value(found.value)}: "
                    "it takes more to tell which goes on."
                )
        else:
            text = (
                f"Place {found.place} of {found.reached} at {_epochs(found.epochs)}{_value(found.value)}; "
                f"the best {found.goes_on} go on{_value(found.cut, ', from {} on')}."
            )
        return self._reason(trial, text)

    # Decisions

    def _of_reported(self, asked: Asked, last: TrialFacts) -> Choice:
        ladder = self._ladder(last.number)
        standing = ladder.standing_of(last)
        if standing is None:
            return GoOn(last.number, ladder.rungs[0] if ladder.rungs else None)
        if standing.is_promotable:
            # It would be taken up again soon: pausing it would only cost its way back.
            return self._promote(standing)
        self._put_aside(last)
        try:
            return self._choose(asked)
        finally:
            self._take_back(last)

    def _choose(self, asked: Asked) -> Choice:
        by_turn = sorted(
            range(len(self._ladders)), key=lambda place: (len(self._running[place]), place)
        )
        for place in by_turn:
            if (standing := self._ladders[place].promotable()) is not None:
                return self._promote(standing)
        if asked.may_begin:
            return self._begin(asked.next_number)
        return self._finish()

    def _begin(self, number: int) -> Begin:
        ladder = self._ladder(number)
        return Begin(ladder.rungs[0] if ladder.rungs else None)

    def _finish(self) -> Choice:
        """Say what is left once no trial begins any more: those that the study's model needs are run to their end."""
        running = [self._trials[number] for numbers in self._running for number in numbers]
        to_their_end = sum(trial.runs_until is None for trial in running)
        if to_their_end < len(running):
            return Wait()  # what these come to decides who goes on
        if len(self._completed) + to_their_end < self._wanted:
            found = [one for ladder in self._ladders if (one := ladder.best_waiting())]
            if found:
                best = max(found, key=lambda one: (one.epochs, -one.place, -one.number))
                return self._run_to_its_end(best)
        return Wait() if running else Over()

    def _promote(self, standing: Standing) -> GoOn:
        following = (
            "to its end" if standing.following is None else f"to {_epochs(standing.following)}"
        )
        text = (
            f"Place {standing.place} of {standing.reached} at {_epochs(standing.epochs)}{_value(standing.value)}; "
            f"the best {standing.goes_on} go on {following}."
        )
        trial = self._trials[standing.number]
        return GoOn(standing.number, standing.following, self._reason(trial, text))

    def _run_to_its_end(self, best: Standing) -> GoOn:
        text = (
            f"The best at {_epochs(best.epochs)}{_value(best.value)}, run to its end: "
            f"the budget is spent, and the model needs {self._wanted} completed "
            f"trial{'s' * (self._wanted != 1)}."
        )
        return GoOn(best.number, None, self._reason(self._trials[best.number], text))

    def _diverged(self, trial: TrialFacts) -> Reason:
        return self._reason(trial, "Its last value is not finite.")

    def _reason(self, trial: TrialFacts, text: str) -> Reason:
        return Reason(rule=self._rule, text=text, epoch=epochs_done(trial))

    # What is known

    def _ladder(self, number: int) -> Ladder:
        return self._ladders[self._ladder_of(number)]

    def _note(self, trial: TrialFacts) -> None:
        place = self._ladder_of(trial.number)
        if counts(trial):
            self._ladders[place].put(trial, waits=_waits(trial))
        if _runs(trial):
            self._running[place].add(trial.number)
        if trial.state == "completed" and counts(trial):
            self._completed.add(trial.number)

    def _forget(self, trial: TrialFacts) -> None:
        place = self._ladder_of(trial.number)
        if counts(trial):
            self._ladders[place].take(trial, waits=_waits(trial))
        self._running[place].discard(trial.number)
        self._completed.discard(trial.number)

    def _put_aside(self, last: TrialFacts) -> None:
        """Count the trial that reported as one that waits, for one decision."""
        place = self._ladder_of(last.number)
        self._running[place].discard(last.number)
        self._ladders[place].take(last, waits=_waits(last))
        self._ladders[place].put(last, waits=True)

    def _take_back(self, last: TrialFacts) -> None:
        self._ladders[self._ladder_of(last.number)].take(last, waits=True)
        self._note(last)


def _waits(trial: TrialFacts) -> bool:
    return trial.state == "paused" and trial.paused_by_search


def _runs(trial: TrialFacts) -> bool:
    """Whether a trial will report, end or be given back without a decision; one that a person paused does once resumed."""
    return trial.state in ("queued", "running") or (
        trial.state == "paused" and not trial.paused_by_search
    )


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def _value(value: float | None, form: str = " (best value {})") -> str:
    return "" if value is None else form.format(f"{value:.6g}")
