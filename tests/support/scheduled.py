"""A search that pauses trials, played without a database: trials run to where they are decided on, in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from service.domain.facts import TrialFacts
from service.sampling.scheduling.scheduler import (
    Asked,
    Begin,
    Choice,
    GoOn,
    Over,
    Scheduler,
    Stop,
    Wait,
)


def a_trial(
    number: int,
    *values: float | None,
    state: str = "paused",
    runs_until: int | None = None,
    by_search: bool | None = None,
) -> TrialFacts:
    """A trial with these values after its epochs; paused by the search, at the last of them, unless told otherwise."""
    is_paused = state == "paused"
    return TrialFacts(
        number,
        state,  # pyright: ignore[reportArgumentType] - a word of the table
        {},
        tuple(enumerate(values)),
        values[-1] if state == "completed" else None,
        runs_until=len(values) if is_paused and runs_until is None else runs_until,
        paused_by_search=is_paused if by_search is None else by_search,
    )


def asked(last: int | None = None, *, may_begin: bool = True, next_number: int = 99) -> Asked:
    return Asked(last, may_begin, next_number, (), 0)


@dataclass
class Play:
    """Workers that run a study to its end, each epoch taking as long as any other.

    Attributes:
        scheduler: the scheduler.
        value: returns the value of a trial after so many epochs.
        epochs: the number of epochs of each trial.
        budget: the number of trials.
        log: what was trained: (trial, from, to) in the order in which the parts ended.
    """

    scheduler: Scheduler
    value: Callable[[int, int], float]
    epochs: int
    budget: int
    log: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    trials: dict[int, TrialFacts] = field(default_factory=dict[int, TrialFacts])

    def run(self, workers: int) -> None:
        """Let so many workers go on until the search is over."""
        busy: list[int | None] = [None] * workers
        for _ in range(100_000):
            for place in range(workers):
                if busy[place] is None:
                    busy[place] = self._claim()
            if all(number is None for number in busy):
                return
            for place, number in enumerate(busy):
                if number is not None and not self._epoch(number):
                    busy[place] = None
        raise AssertionError("the search does not end")

    def counts(self) -> Sequence[int]:
        """How many trials reached each number of epochs that any trial ended at."""
        ends = sorted({len(trial.curve) for trial in self.trials.values()})
        return [sum(len(trial.curve) >= end for trial in self.trials.values()) for end in ends]

    def _claim(self) -> int | None:
        begun = len(self.trials)
        question = asked(may_begin=begun < self.budget, next_number=begun)
        match self.scheduler.decide(question):
            case Begin(runs_until=runs_until):
                trial = a_trial(begun, state="running", runs_until=runs_until, by_search=False)
                self._tell(trial)
                return begun
            case GoOn(number=number, runs_until=runs_until):
                trial = self.trials[number]
                assert trial.state == "paused"
                assert runs_until is None or runs_until > len(trial.curve)
                self._tell(
                    replace(
                        trial, state="running", paused_by_search=False, runs_until=runs_until
                    )
                )
                return number
            case Wait():
                assert any(trial.state == "running" for trial in self.trials.values())
                return None
            case Over():
                return None
            case Stop():
                raise AssertionError("a claim stops nobody")

    def _epoch(self, number: int) -> bool:
        """Train one epoch; tell whether the trial goes on."""
        trial = self.trials[number]
        done = len(trial.curve) + 1
        point = (done - 1, self.value(number, done))
        trial = replace(trial, curve=(*trial.curve, point))
        self.log.append((number, done - 1, done))
        if done == self.epochs:
            self._tell(replace(trial, state="completed", value=point[1]))
            return False
        self._tell(trial)
        if trial.runs_until is None or done < trial.runs_until:
            return True
        question = asked(
            number, may_begin=len(self.trials) < self.budget, next_number=len(self.trials)
        )
        return self._follow(trial, self.scheduler.decide(question))

    def _follow(self, trial: TrialFacts, choice: Choice) -> bool:
        if isinstance(choice, GoOn) and choice.number == trial.number:
            self._tell(replace(trial, runs_until=choice.runs_until))
            return True
        self._tell(replace(trial, state="paused", paused_by_search=True))
        return False

    def _tell(self, trial: TrialFacts) -> None:
        self.trials[trial.number] = trial
        self.scheduler.learn([trial])
