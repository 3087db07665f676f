"""All that can happen to a trial comes to one place, and the thread that runs it takes one thing after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

from trimtab.contract.leases import Failed, Leases, Verdict
from trimtab.contract.problems import Problem
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress


@dataclass(frozen=True)
class Said:
    """The runner of this pid said something."""

    pid: int
    news: News


@dataclass(frozen=True)
class Died:
    """The runner of this pid is gone; how a trial that it had fails."""

    pid: int
    failure: Failed


@dataclass(frozen=True)
class Told:
    """A heartbeat was answered with another verdict than to continue."""

    lease_id: UUID
    verdict: Verdict


@dataclass(frozen=True)
class Lost:
    """The lease is no longer ours."""

    lease_id: UUID
    problem: Problem


@dataclass(frozen=True)
class Claimed:
    """The service has answered a claim, or could not."""

    claim_id: UUID
    answer: Leases | Problem


@dataclass(frozen=True)
class Drain:
    """The agent was asked to leave."""


Event = Said | Died | Told | Lost | Claimed | Drain


class Inbox:
    """A queue that threads and signal handlers may put into."""

    def __init__(self) -> None:
        # SimpleQueue: its put is reentrant, so a signal handler may call it.
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.lease_id: UUID | None = None
        """What the runner says of this lease belongs here."""

    def put(self, event: Event) -> None:
        """Add an event; never blocks."""
        self._events.put(event)

    def get(self, timeout_s: float) -> Event | None:
        """Take the next event; None when none came in time."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None


class Post:
    """Brings to each inbox what concerns it; threads and signal handlers may hand in events.

    Args:
        inboxes: all of one agent; to the first comes what the runner says of itself.
    """

    def __init__(self, inboxes: Sequence[Inbox]) -> None:
        # Never changed: a signal handler cannot wait for a lock.
        self._inboxes = tuple(inboxes)

    def put(self, event: Said | Died | Drain) -> None:
        """Pass on news of a lease to its inbox; to all what ends everything, and to all that have one that something moves."""
        match event:
            case Said(news=Began() | EpochDone() | Ended() as news):
                for inbox in self._inboxes:
                    if inbox.lease_id == news.lease_id:
                        inbox.put(event)
            case Said(news=Progress()):
                for inbox in self._inboxes:
                    if inbox.lease_id is not None:
                        inbox.put(event)
            case Said():
                self._inboxes[0].put(event)
            case _:
                for inbox in self._inboxes:
                    inbox.put(event)
