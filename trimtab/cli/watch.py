"""Following a study: a snapshot of its state whenever events show that it changed."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from trimtab.client import Client
from trimtab.client.client import ENDED
from trimtab.contract import problems
from trimtab.contract.events import Event
from trimtab.contract.studies import Study
from trimtab.contract.trials import Trial

GATHER_S = 0.25
"""Events within this many seconds share one snapshot."""

CHECK_S = 1.0
SHOWN_TRIALS = 10

MOST_READ = 50
"""The largest number of trials that are read for one snapshot: the first batch of an old study touches them all."""


@dataclass(frozen=True)
class Snapshot:
    """A study as it is now, its latest trials, and the events since the snapshot before."""

    study: Study
    trials: Mapping[int, Trial]
    """The trials that the events touched, and a few before them, by number."""
    events: tuple[Event, ...]
    seconds_left: float | None
    """Seconds that the search may still take; None while they cannot be estimated."""


def follow(
    client: Client,
    name: str,
    *,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Yield snapshots until the study is done, cancelled or blocked; `check` raises if there is nothing to wait for.

    Raises:
        problems.Problem: the service refused, or did not answer for longer than the client retries.
    """
    study = client.study(name)
    reckoning = Reckoning(study, clock())
    trials: dict[int, Trial] = {}
    began: datetime | None = None
    spent_s = 0.0
    for events in _batches(client, name, check):
        # A study is blocked without an event when the last worker that could serve it goes away.
        if events is None and not study.set_aside and study.document.needs is None:
            continue
        events = events or ()
        study = client.study(name)
        _refresh(client, name, trials, events)
        began = began or next((e.at for e in events if e.kind == "trial_started"), None)
        if events and began is not None:
            spent_s = (events[-1].at - began).total_seconds()
        left = reckoning.seconds_left(study, spent_s, clock())
        if events or study.blocked or study.state in ENDED:
            yield Snapshot(study, dict(trials), events, left)
        if study.blocked:
            return


class Reckoning:
    """Estimates how long the rest takes, at the pace since the first trial that was seen to settle."""

    def __init__(self, study: Study, now: float) -> None:
        self._settled = count_settled(study)
        self._since = now
        self._is_warm = self._settled > 0

    def seconds_left(self, study: Study, spent_s: float, now: float) -> float | None:
        """Return the seconds until the budget is used up; None before a trial settles and when the search is over.

        `spent_s` is the number of seconds since its first trial began: its wall time may run out before its trials do.
        """
        settled = count_settled(study)
        rest = study.document.search_budget.trials - settled
        if study.state not in ("active", "stopping") or settled <= self._settled or rest <= 0:
            return None
        left = (now - self._since) / (settled - self._settled) * rest
        if not self._is_warm:
            # The time before the first trial was start-up, and says nothing about the pace.
            self._settled, self._since, self._is_warm = settled, now, True
        wall_s = study.document.search_budget.wall_time_s
        return left if wall_s is None else min(left, max(0.0, wall_s - spent_s))


def count_settled(study: Study) -> int:
    """Return the number of trials that have ended in any way."""
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
    """The end of the stream, with the problem that ended it, if any."""

    problem: problems.Problem | None


def _batches(
    client: Client, name: str, check: Callable[[], None]
) -> Iterator[tuple[Event, ...] | None]:
    """Yield the events in batches, at most one every `GATHER_S` seconds; the last may be empty. None: nothing came."""
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
            yield None
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
