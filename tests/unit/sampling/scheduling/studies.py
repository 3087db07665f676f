"""Studies in memory that a scheduler decides on in tests: trials with curves that are known from the start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from service.domain.facts import TrialFacts
from service.sampling.scheduling.freeze_thaw import FreezeThaw
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Stop
from trimtab.contract.reasons import Reason
from trimtab.contract.search_space import Scalar

Values = Mapping[str, Scalar]
CurveOf = Callable[[Values, int], Sequence[float | None]]
"""Returns the value of each epoch of a configuration, whose trial has this number."""


def facts(
    number: int,
    values: Values,
    curve: Sequence[float | None],
    state: str = "running",
    *,
    runs_until: int | None = None,
    epochs: int = 20,
) -> TrialFacts:
    """Make a trial that has these values so far; one that has all of them is completed."""
    if len(curve) >= epochs and state == "running":
        state = "completed"
    return TrialFacts(
        number,
        state,  # pyright: ignore[reportArgumentType] - a word of the contract
        values,
        tuple(enumerate(curve)),
        next((one for one in reversed(curve) if one is not None), None)
        if state == "completed"
        else None,
        "diverged" if state == "failed" else None,
        runs_until,
        state == "paused",
    )


@dataclass
class Replay:
    """A study whose workers each train an epoch at a time, in turn.

    Attributes:
        scheduler: The scheduler.
        draw: Makes a configuration where the scheduler leaves it to the sampler.
        curve_of: The curves.
        epochs: The number of epochs of a whole trial.
        budget: The number of trials that may begin.
        decided: One tuple for each decision: the trial that asked, the number of epochs it had, and the choice.
        trials: The trials as they stand.
        reasons: The trials that were paused, and why.
    """

    scheduler: FreezeThaw
    draw: Callable[[int], Values]
    curve_of: CurveOf
    epochs: int = 20
    budget: int = 10**6
    decided: list[tuple[int | None, int, Choice]] = field(
        default_factory=list[tuple[int | None, int, Choice]]
    )
    trials: dict[int, TrialFacts] = field(default_factory=dict[int, TrialFacts])
    reasons: list[tuple[int, Reason]] = field(default_factory=list[tuple[int, Reason]])

    def run(self, workers: int, epochs: int) -> "Replay":
        """Train this many epochs in all; end earlier where nothing is left to do."""
        busy: list[int | None] = [self._claim() for _ in range(workers)]
        for turn in range(epochs):
            if all(one is None for one in busy):
                break
            worker = turn % workers
            number = busy[worker]
            busy[worker] = self._claim() if number is None else self._train(number)
        return self

    def of(self, state: str) -> list[TrialFacts]:
        """Return the trials in this state."""
        return [trial for trial in self.trials.values() if trial.state == state]

    def done(self) -> list[Begin | GoOn]:
        """Return the decisions that were carried out: what gave epochs to a trial, in turn."""
        return [
            choice
            for last, _, choice in self.decided
            if (isinstance(choice, Begin) and last is None)
            or (isinstance(choice, GoOn) and last in (None, choice.number))
        ]

    def spent(self, trials: Sequence[TrialFacts] | None = None) -> int:
        """Return the number of epochs trained."""
        return sum(
            len(one.curve) for one in (self.trials.values() if trials is None else trials)
        )

    def _train(self, number: int) -> int | None:
        trial = self.trials[number]
        curve = self.curve_of(trial.hyperparameters, number)[: len(trial.curve) + 1]
        trial = facts(
            number,
            trial.hyperparameters,
            curve,
            runs_until=trial.runs_until,
            epochs=self.epochs,
        )
        self._know(trial)
        if trial.state == "completed":
            return self._claim()
        until, done = trial.runs_until, len(curve)
        is_due = self.scheduler.decides_at(done) if until is None else done >= until
        if not (is_due or curve[-1] is None):
            return number
        return self._judge(trial)

    def _judge(self, trial: TrialFacts) -> int | None:
        match self._ask(trial.number):
            case GoOn(number=number, runs_until=until) if number == trial.number:
                self._know(replace(trial, runs_until=until))
                return number
            case Stop():
                self._know(replace(trial, state="pruned"))
            case _:
                why = self.scheduler.reason_to_pause(trial.number)
                self.reasons.append((trial.number, why))
                self._know(replace(trial, state="paused", paused_by_search=True))
        return self._claim()

    def _claim(self) -> int | None:
        match self._ask(None):
            case Begin(runs_until=until, values=values):
                number = len(self.trials)
                chosen = self.draw(number) if values is None else values
                self._know(facts(number, chosen, (), runs_until=until))
                return number
            case GoOn(number=number, runs_until=until):
                trial = self.trials[number]
                assert trial.state == "paused"
                self._know(
                    replace(trial, state="running", paused_by_search=False, runs_until=until)
                )
                return number
            case _:
                return None

    def _ask(self, last: int | None) -> Choice:
        may_begin, number = len(self.trials) < self.budget, len(self.trials)
        choice = self.scheduler.decide(Asked(last, may_begin, number, (), len(self.decided)))
        epochs = 0 if last is None else len(self.trials[last].curve)
        self.decided.append((last, epochs, choice))
        return choice

    def _know(self, trial: TrialFacts) -> None:
        self.trials[trial.number] = trial
        self.scheduler.learn([trial])


def uniform(number: int) -> Values:
    """Draw a configuration of two real numbers between 0 and 1."""
    x, y = np.random.default_rng(number).random(2)
    return {"x": float(x), "y": float(y)}
