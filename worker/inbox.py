"""All that can happen to an agent comes to one place, and its main thread takes one thing after the other."""

from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

from trimtab.contract.leases import Failed, Leases, Verdict
from trimtab.contract.problems import Problem
from worker.pipe_messages import News


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

    def put(self, event: Event) -> None:
        """Add an event; never blocks."""
        self._events.put(event)

    def get(self, timeout_s: float) -> Event | None:
        """Take the next event; None when none came in time."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None
