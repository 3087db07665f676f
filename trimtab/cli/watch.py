"""Following a study: snapshots of its state, taken when its events say that something changed."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.events import Event
from trimtab.contract.studies import Study
from trimtab.contract.trials import Trial

GATHER_S = 0.25
"""Events that come within so long share one snapshot."""

CHECK_S = 1.0
SHOWN_TRIALS = 10

MOST_READ = 50
"""Of a batch that touches more trials than that, as the first one of an old study may, the last are read."""


@dataclass(frozen=True)
class Snapshot:
    """A study as it stands, its latest trials, and the events since the snapshot before."""

    study: Study
    trials: Mapping[int, Trial]
    """Those that the events touched, and a few before them."""
    events: tuple[Event, ...]
    seconds_left: float | None
    """How long the search may still take; None while there is nothing to reckon with."""


def follow(
    client: Client,
    name: str,
    *,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Yield snapshots until the study is done or cancelled; `check` may raise what makes waiting useless.

    Raises:
        problems.Problem: the service refused, or went away for longer than the client's patience.
    """
    reckoning = Reckoning(client.study(name), clock())
    trials: dict[int, Trial] = {}
    began: datetime | None = None
    spent_s = 0.0
    for events in _batches(client, name, check):
        study = client.study(name)
        _refresh(client, name, trials, events)
        began = began or next((e.at for e in events if e.kind == "trial_started"), None)
        if events and began is not None:
            spent_s = (events[-1].at - began).total_seconds()
        left = reckoning.seconds_left(study, spent_s, clock())
        yield Snapshot(study, dict(trials), events, left)


class Reckoning:
    """How long the rest will take, at the pace since the first trial that we saw settle."""

    def __init__(self, study: Study, now: float) -> None:
        self._settled = count_settled(study)
        self._since = now
        self._is_warm = self._settled > 0

    def seconds_left(self, study: Study, spent_s: float, now: float) -> float | None:
        """Seconds until the budget is used up; None before a trial settles, and when the search is over.

        `spent_s` is how long ago its first trial began: its wall time may run out before its trials do.
        """
        settled = count_settled(study)
        rest = study.document.budget.trials - settled
        if study.state not in ("active", "stopping") or settled <= self._settled or rest <= 0:
            return None
        left = (now - self._since) / (settled - self._settled) * rest
        if not self._is_warm:
            # What came before the first trial was start-up; it says nothing of the pace.
            self._settled, self._since, self._is_warm = settled, now, True
        wall_s = study.document.budget.wall_time_s
        return left if wall_s is None else min(left, max(0.0, wall_s - spent_s))


def count_settled(study: Study) -> int:
    """How many trials have ended, well or not."""
    progress = study.progress
    return progress.completed + progress.pruned + progress.failed + progress.cancelled


def _refresh(
    client: Client, name: str, trials: dict[int, Trial], events: tuple[Event, ...]
) -> None:
    for number in sorted(trials)[:-SHOWN_TRIALS]:
        del trials[number]
    changed = {event.trial_number for event in events if event.trial_number is not None}
    for number in sorted(changed)[-MOST_READ:]:
        trials[number] = client.trial(name, number)


@dataclass(frozen=True)
class _End:
    """The stream has ended, in good order or by a problem."""

    problem: problems.Problem | None


def _batches(
    client: Client, name: str, check: Callable[[], None]
) -> Iterator[tuple[Event, ...]]:
    """The events in batches, one every `GATHER_S` at most; the last batch may be empty."""
    arrived: queue.Queue[Event | _End] = queue.Queue()

    def read() -> None:
        problem = None
        try:
            for event in client.events(name):
                arrived.put(event)
        except problems.Problem as error:
            problem = error
        finally:
            arrived.put(_End(problem))

    threading.Thread(target=read, name="events", daemon=True).start()
    while True:
        check()
        try:
            items = [arrived.get(timeout=CHECK_S)]
        except queue.Empty:
            continue
        time.sleep(GATHER_S)
        with contextlib.suppress(queue.Empty):
            while True:
                items.append(arrived.get_nowait())
        end = next((item for item in items if isinstance(item, _End)), None)
        if end is not None and end.problem is not None:
            raise end.problem
        yield tuple(item for item in items if isinstance(item, Event))
        if end is not None:
            return
