"""How many threads this process computes with: as many as were fastest when its own work was tried.

More threads are not always faster. In a small network they mostly wait for each other, and on cores that others use
too, each step waits for the thread that was kept from its core: there a step took 20 times as long on two threads as on
one. Neither can be seen from the number of cores, so that it is tried, and tried again when steps take longer.
"""

import math
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from worker.training.device.threads import Attempt, Work

LEAST_ROUNDS = 3
"""The number of times that each count is tried at least, beside the first time, which also allocates memory."""
MOST_ROUNDS = 25
"""Steps of a small network take a millisecond or two, a tenth more or less by chance: so many tell counts apart that are nearly alike."""
ENOUGH_S = 0.25
"""Work that has been tried for longer is tried no more than at least."""
HOPELESS = 2.0
"""A count that took this many times as long as the fastest in the first round is tried no more, nor are smaller ones."""
LONG_S = 1.0
"""Work that takes longer is tried once with each count."""
GAIN = 1.1
"""A count that is known gives way to another only if that one is faster by this factor: chance must not change bits."""
SHARE = 0.005
"""The largest part of the time that goes into trying what is known already."""
SHARE_IF_CHANGED = 0.02
"""The largest part of the time that goes into trying because steps take longer, or shorter, than before."""
CHANGED = 1.5
"""Epochs that take this many times as long as before, or as short, show that the machine has other work, or less."""
LONG_EPOCH_S = 10.0
"""One such epoch that takes longer is enough; of shorter ones two in a row, as other work of a moment passes by itself."""


@dataclass(frozen=True)
class Tried:
    """What was found for one kind of work.

    Attributes:
        count: The number of threads that was fastest.
        took_s: The seconds that trying took.
        at: The time when it ended, on the monotonic clock.
    """

    count: int
    took_s: float
    at: float


class ThreadCounts:
    """The numbers of threads that work of this process is computed with.

    Args:
        most: The largest number.
        fixed: A number that a person has set, which is then taken untried.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self, most: int, fixed: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = fixed or most
        self._counts = _counts(most) if fixed is None else [fixed]
        self._clock = clock
        self._tried: dict[Hashable, Tried] = {}

    def of(self, features: Hashable, steps: Hashable) -> "ChoiceOfThreads":
        """Return the choice for one training.

        Args:
            features: All that the time of a batch of features depends on.
            steps: All that the time of a step depends on.
        """
        return ChoiceOfThreads(self, {"features": features, "steps": steps})

    def known(self, key: Hashable, share: float) -> int | None:
        """Return the number for a kind of work; None if it is to be tried.

        Args:
            key: The kind of work.
            share: The part of the time that may go into trying it again; 0 never tries it again.
        """
        if len(self._counts) == 1:
            return self.most
        tried = self._tried.get(key)
        if tried is None:
            return None
        is_due = share > 0 and self._clock() - tried.at > tried.took_s / share
        return None if is_due else tried.count

    def choose(self, key: Hashable, attempt: Attempt) -> int:
        """Try work of a kind and return the number of threads that is fastest."""
        began, tried = self._clock(), self._tried.get(key)
        count = fastest(self._counts, attempt, None if tried is None else tried.count)
        ended = self._clock()
        self._tried[key] = Tried(count, ended - began, ended)
        return count


class ChoiceOfThreads:
    """The choice for one training, which remembers what was found for trainings like it.

    Args:
        counts: The findings of this process.
        keys: The kinds that the training's work is of.
    """

    def __init__(self, counts: ThreadCounts, keys: dict[Work, Hashable]) -> None:
        self._counts = counts
        self._keys = keys
        self._usual_s: list[float] = []
        self._changed = 0

    @property
    def most(self) -> int:
        """The largest number that it would choose."""
        return self._counts.most

    def known(self, work: Work, /) -> int | None:
        """Return the number for this work; None if it is to be tried."""
        # Features that were computed with another number of threads are other features, and are computed anew for
        # that: what was found for them stays.
        return self._counts.known(self._keys[work], SHARE if work == "steps" else 0.0)

    def choose(self, work: Work, attempt: Attempt, /) -> int:
        """Try this work; return the number that it is to be computed with."""
        self._usual_s.clear()
        self._changed = 0
        return self._counts.choose(self._keys[work], attempt)

    def should_try_again(self, epoch_s: float) -> bool:
        """Whether the steps are to be tried again, because epochs take much longer, or shorter, than those before.

        Args:
            epoch_s: The seconds that the newest epoch took.
        """
        usual = statistics.median(self._usual_s[-5:] or [epoch_s])
        if usual / CHANGED <= epoch_s <= usual * CHANGED:
            self._usual_s.append(epoch_s)
            self._changed = 0
            return False
        self._changed += 1
        is_lasting = self._changed >= 2 or epoch_s >= LONG_EPOCH_S
        return is_lasting and self._counts.known(self._keys["steps"], SHARE_IF_CHANGED) is None


def fastest(counts: Sequence[int], attempt: Attempt, known: int | None = None) -> int:
    """Return the number of threads by which the work took the least time, as the median of several tries.

    Args:
        counts: The numbers to try, in rising order.
        attempt: Does one piece of the work and returns its seconds.
        known: The number that was found before, which stays unless another is clearly faster.
    """
    times = _descended(counts, attempt)
    if min(map(min, times.values())) < LONG_S:
        _take_turns(times, attempt)
    medians = {count: statistics.median(each) for count, each in times.items()}
    best = min(medians, key=lambda count: medians[count])
    if known in medians and medians[known] < GAIN * medians[best]:
        return known
    return best


def _take_turns(times: dict[int, list[float]], attempt: Attempt) -> None:
    """Try each number several times; they take turns, so that a moment of other work meets all of them."""
    spent = sum(map(sum, times.values()))
    for turn in range(1, MOST_ROUNDS):
        if turn >= LEAST_ROUNDS and spent > ENOUGH_S:
            return
        for count in times if turn % 2 else reversed(times):
            times[count].append(attempt(count))
            spent += times[count][-1]


def _descended(counts: Sequence[int], attempt: Attempt) -> dict[int, list[float]]:
    """Try each number once, from the largest down to where fewer are clearly slower; return the hopeful ones' seconds.

    A large network would take minutes for a step on one thread, which is not tried then.
    """
    times: dict[int, list[float]] = {}
    least = math.inf
    for count in reversed(counts):
        took = attempt(count)
        # The first time also allocates memory, which is nothing beside a long step.
        took = took if took >= LONG_S else attempt(count)
        times[count] = [took]
        least = min(least, took)
        if took > least * (HOPELESS if least < LONG_S else GAIN):
            break
    return {count: each for count, each in times.items() if each[0] <= HOPELESS * least}


def _counts(most: int) -> list[int]:
    """Return 1, 2, 4 and so on, and `most`."""
    powers = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*powers, most]
