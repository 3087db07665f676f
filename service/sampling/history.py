"""One study's trials in memory, indexed so that no question about them is a scan."""

import math
from array import array
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, MutableSequence, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from service.domain.facts import Changes, Cursor, Curve, TrialFacts
from service.domain.lifecycle import INFEASIBLE
from service.domain.pruning import step_at_same_share
from service.sampling.parzen import Split
from trimtab.contract.metrics import Direction

Role = Literal["completed", "pruned", "infeasible", "running"]
Rank = tuple[int, float, float, int]
"""Class, two scores within the class, trial number; the lowest is the best."""

ALIKE = 1
"""The number of epochs to reckon with where all trials have the same: any one makes equal shares of equal steps."""
BULK = 100
"""From so many changes on, sorting everything once is cheaper than inserting one by one."""


def role(trial: TrialFacts) -> Role | None:
    """Tell what a trial is to a sampler; None when it must not see the trial at all.

    A trial that waits for a worker counts as running. A paused one has taught what its curve says, like a
    pruned one. One that failed by its configuration's fault is infeasible, and so is one that violates a constraint,
    whether it completed or was not trained for it. Other failures say nothing about the configuration.
    """
    match trial.state:
        case "completed" | "pruned" if trial.violation is not None:
            return "infeasible"
        case "completed":
            return "completed" if trial.value is not None else None
        case "pruned" | "paused":
            return "pruned"
        case "queued" | "running":
            return "running"
        case "failed":
            return "infeasible" if trial.error_kind in INFEASIBLE else None
        case "cancelled":
            return None


def good_share(finished: int) -> int:
    """Return how many of so many finished trials TPE takes as good (its default gamma)."""
    return min(math.ceil(0.1 * finished), 25)


class History:
    """The trials of one study, in which more or less is better, as they were at `cursor`. Not thread-safe."""

    def __init__(self, direction: Direction) -> None:
        self._sign = -1.0 if direction == "maximize" else 1.0
        self.cursor: Cursor | None = None
        self.next_number = 0
        """One above the highest trial number seen."""
        self._trials: dict[int, TrialFacts] = {}
        # The indexes are sorted; numbers lie in arrays, which numpy copies as a whole.
        self._running = array("q")
        self._finished = array("q")
        self._ranks: list[Rank] = []
        self._values_at: dict[int, defaultdict[int, list[float]]] = {}
        """Of the completed trials, by their number of epochs, then by step."""

    def apply(self, changes: Changes) -> Sequence[TrialFacts]:
        """Take over changed trials, and return them; those that come again unchanged cost nothing."""
        latest = {trial.number: trial for trial in changes.trials}
        changed = {n: trial for n, trial in latest.items() if self._trials.get(n) != trial}
        if len(changed) >= BULK:
            self._trials.update(changed)
            self._rebuild()
        else:
            for trial in changed.values():
                self._replace(trial)
        self.next_number = max(self.next_number, max(changed, default=-1) + 1)
        self.cursor = changes.cursor
        return list(changed.values())

    def get(self, number: int) -> TrialFacts | None:
        """Return the trial of this number, if it has been seen."""
        return self._trials.get(number)

    def __getitem__(self, number: int) -> TrialFacts:
        """Return the trial of this number, which has been seen."""
        return self._trials[number]

    @property
    def completed(self) -> int:
        """How many trials have completed."""
        return bisect_left(self._ranks, (1,))

    @property
    def finished(self) -> int:
        """How many trials have taught what they can: completed, pruned, paused and infeasible ones."""
        return len(self._finished)

    @property
    def has_only_infeasible(self) -> bool:
        """Whether some trials have ended, and every one of them failed: not even how far each is from feasible is known."""
        return bool(self._ranks) and self._ranks[0] >= (2, math.inf)

    def values_at(self, step: int, epochs: int | None) -> list[float]:
        """Return the finite intermediate values of the completed trials at `step`, ascending.

        Those of trials with another number of epochs are taken at the same share of theirs as `step` is of `epochs`. With
        None all have the same number.
        """
        found = [
            at_step.get(step_at_same_share(step, epochs or ALIKE, of), [])
            for of, at_step in self._values_at.items()
        ]
        return found[0] if len(found) == 1 else sorted(chain.from_iterable(found))

    def capped(self, limit: int | None) -> list[TrialFacts]:
        """Return what a sampler is shown: at most `limit` finished trials, then all that run.

        Those that TPE takes as good are always among them, so its good density is that of the whole
        history; the other places go to the newest, which TPE weighs most in any case.
        """
        split = self.split(limit)
        finished = np.setdiff1d(np.concatenate([split.good, split.others]), self._running)
        return [self._trials[number] for number in (*finished.tolist(), *self._running)]

    def split(self, limit: int | None) -> Split:
        """Return the same by numbers, ascending: those that TPE takes as good, and all others.

        Completed trials are better than pruned ones, and those are better than infeasible ones, of which those are the best that
        violate their constraints least and those the worst that failed; of equals, older ones.
        """
        count = len(self._finished) if limit is None else min(limit, len(self._finished))
        good = np.array([rank[-1] for rank in self._ranks[: good_share(count)]], dtype=np.int64)
        newest = np.array(self._finished[len(self._finished) - count :], np.int64)
        places = np.searchsorted(newest, good)
        is_other = np.ones(count + 1, bool)
        is_other[places[np.append(newest, -1)[places] == good]] = False
        others = newest[is_other[:count]]
        # As many of the good ones as are older than all these take the places of the oldest others.
        others = others[len(good) + len(others) - count :]
        others = np.concatenate([others, np.array(self._running, np.int64)])
        return Split(np.sort(good), np.sort(others))

    def _replace(self, trial: TrialFacts) -> None:
        if old := self._trials.get(trial.number):
            for index, key in self._entries(old):
                del index[bisect_left(index, key)]
        self._trials[trial.number] = trial
        for index, key in self._entries(trial):
            insort(index, key)

    def _rebuild(self) -> None:
        self._running, self._finished, self._ranks = array("q"), array("q"), []
        self._values_at.clear()
        for trial in self._trials.values():
            for index, key in self._entries(trial):
                index.append(key)
        values = (at_step.values() for at_step in self._values_at.values())
        for index in (self._ranks, *chain(*values)):
            index.sort()
        self._running = array("q", sorted(self._running))
        self._finished = array("q", sorted(self._finished))

    def _entries(self, trial: TrialFacts) -> Iterator[tuple[MutableSequence[Any], Any]]:
        """Yield each index in which the trial stands, with its entry there."""
        match role(trial):
            case None:
                return
            case "running":
                yield self._running, trial.number
                return
            case "completed":
                yield self._ranks, (0, self._sign * (trial.value or 0.0), 0.0, trial.number)
                at_step = self._values_at.setdefault(trial.epochs or ALIKE, defaultdict(list))
                for step, value in trial.curve:
                    if value is not None:
                        yield at_step[step], value
            case "pruned":
                yield self._ranks, (1, *self._pruned_score(trial.curve), trial.number)
            case "infeasible":
                far = math.inf if trial.violation is None else trial.violation
                yield self._ranks, (2, far, 0.0, trial.number)
        yield self._finished, trial.number

    def _pruned_score(self, curve: Curve) -> tuple[float, float]:
        """Rank pruned trials as TPE does: the longer the better, then by the last value."""
        if not curve:
            return 1.0, 0.0
        step, value = curve[-1]
        return -step, math.inf if value is None else self._sign * value
