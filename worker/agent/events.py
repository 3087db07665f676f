"""All that can happen to a trial comes to one place, and the thread that runs it takes one thing after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

from trimtab.contract.leases import Failed, Leases, Verdict
from trimtab.contract.problems import Problem
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress


@dataclass(frozen=True)
class RunnerMessage:
    """The runner of this pid said something."""

    pid: int
    news: News


@dataclass(frozen=True)
class RunnerExited:
    """The runner of this pid is gone; how a trial that it had fails."""

    pid: int
    failure: Failed


@dataclass(frozen=True)
class VerdictReceived:
    """A heartbeat was answered with another verdict than to continue."""

    lease_id: UUID
    verdict: Verdict


@dataclass(frozen=True)
class LeaseRevoked:
    """The lease is no longer ours."""

    lease_id: UUID
    problem: Problem


@dataclass(frozen=True)
class ClaimAnswered:
    """The service has answered a claim, or could not."""

    claim_id: UUID
    answer: Leases | Problem


@dataclass(frozen=True)
class DrainRequested:
    """The agent was asked to leave."""


Event = (
    RunnerMessage
    | RunnerExited
    | VerdictReceived
    | LeaseRevoked
    | ClaimAnswered
    | DrainRequested
)


class EventQueue:
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


class EventRouter:
    """Brings to each inbox what concerns it; threads and signal handlers may hand in events.

    Args:
        queues: all of one agent; to the first comes what the runner says of itself.
    """

    def __init__(self, queues: Sequence[EventQueue]) -> None:
        # Never changed: a signal handler cannot wait for a lock.
        self._queues = tuple(queues)

    def put(self, event: RunnerMessage | RunnerExited | DrainRequested) -> None:
        """Pass on news of a lease to its inbox; to all what ends everything, and to all that have one that something moves."""
        match event:
            case RunnerMessage(news=Began() | EpochDone() | Ended() as news):
                for queue in self._queues:
                    if queue.lease_id == news.lease_id:
                        queue.put(event)
            case RunnerMessage(news=Progress()):
                for queue in self._queues:
                    if queue.lease_id is not None:
                        queue.put(event)
            case RunnerMessage():
                self._queues[0].put(event)
            case _:
                for queue in self._queues:
                    queue.put(event)
