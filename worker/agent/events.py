"""The event queue of a trial, and the router that fills it.

All that can happen to a trial (messages of the runner, its death, verdicts, signals) arrives in one queue, and the
thread that runs the trial takes one event after the other. So an attempt needs no locks, and each of its methods sees
all that happened before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from uuid import UUID

from trimtab.contract.leases import Failed, Leases, Verdict
from trimtab.contract.problems import Problem
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress


@dataclass(frozen=True)
class RunnerMessage:
    """The runner of this pid sent a message."""

    pid: int
    news: News


@dataclass(frozen=True)
class RunnerExited:
    """The runner of this pid has exited; `failure` is how the trials that it had fail."""

    pid: int
    failure: Failed


@dataclass(frozen=True)
class VerdictReceived:
    """A heartbeat was answered with another verdict than `continue`."""

    lease_id: UUID
    verdict: Verdict


@dataclass(frozen=True)
class LeaseRevoked:
    """The service says that this worker no longer holds the lease."""

    lease_id: UUID
    problem: Problem


@dataclass(frozen=True)
class ClaimAnswered:
    """The service has answered a claim, or the request failed."""

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
    """The events of one slot, in order; threads and signal handlers may put events in."""

    def __init__(self) -> None:
        # A signal handler can interrupt a `put` of its own thread. `SimpleQueue.put` is reentrant; `Queue.put` would
        # wait for the lock that its own thread holds.
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.lease_id: UUID | None = None
        """The lease that the slot runs: the router puts the runner's messages about it here."""

    def put(self, event: Event) -> None:
        """Add an event; never blocks."""
        self._events.put(event)

    def get(self, timeout_s: float) -> Event | None:
        """Take the next event; None when none arrived within `timeout_s`."""
        try:
            return self._events.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None


class EventRouter:
    """Puts each event into the queues that it concerns; threads and signal handlers may call it.

    Args:
        queues: the event queues of one agent's slots. The first one also gets what the runner says about itself.
    """

    def __init__(self, queues: Sequence[EventQueue]) -> None:
        # The tuple never changes, so that no lock is needed, which a signal handler could not wait for.
        self._queues = tuple(queues)

    def put(self, event: RunnerMessage | RunnerExited | DrainRequested) -> None:
        """Put an event into the queues that it concerns.

        A message about a lease goes to the queue of that lease. Progress goes to every queue that has a lease. The
        runner's exit and a request to drain go to all.
        """
        match event:
            case RunnerMessage(news=Began() | EpochDone() | Ended() as news):
                for queue in self._queues:
                    if queue.lease_id == news.lease_id:
                        queue.put(event)
            case RunnerMessage(news=Progress()):
                # The trials of a group wait for each other, so progress of one is progress of all.
                for queue in self._queues:
                    if queue.lease_id is not None:
                        queue.put(event)
            case RunnerMessage():
                self._queues[0].put(event)
            case _:
                for queue in self._queues:
                    queue.put(event)
