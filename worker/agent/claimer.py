"""Claims leases so that no lease that the service has granted is lost.

The answer to a claim can be lost after the service has granted a lease: then a trial would wait for its lease to expire
although a worker stands idle. So a claim carries an id that the worker chose, and the service answers a repeated id as
it did the first time. The id is kept until it has got a lease, whatever happens to requests and answers.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Lease, LeaseRequest, Leases, Release
from worker.agent.events import ClaimAnswered, DrainRequested, Event, EventQueue

log = logging.getLogger(__name__)

LOOK_EVERY_S = 20.0


class ServiceCalls(Protocol):
    """What claiming needs of the client."""

    def claim(self, request: LeaseRequest, /) -> Leases:
        """Ask for work."""
        ...

    def release(self, lease_id: UUID, release: Release, /) -> None:
        """Give a trial back to the queue."""
        ...


class Claimer:
    """Claims one lease at a time.

    Args:
        client: the client of the service.
        events: the queue in which the claim's answer and a request to drain arrive.
        on_event: is called with every other event that arrives while a claim waits.
    """

    def __init__(
        self, client: ServiceCalls, events: EventQueue, on_event: Callable[[Event], None]
    ) -> None:
        self._client = client
        self._events = events
        self._on_event = on_event
        self._claim_id = uuid.uuid4()
        self._unanswered: LeaseRequest | None = None
        """The last claim, if no answer to it has arrived: it may have got a lease that we do not know."""

    def claim(
        self, worker_id: UUID, wait_s: float, *, beside: str | None = None
    ) -> Lease | None:
        """Ask for a trial; None when there is none, or the agent was told to leave.

        The claim keeps its id until it has got a lease. If an answer was lost, the next claim is answered with the
        same lease.

        Args:
            worker_id: the id that the service gave this worker.
            wait_s: the seconds that the service may hold the request open while there is no trial.
            beside: the only study to take a trial of, if this slot joins a group.

        Raises:
            problems.Problem: the service refuses the claim, or is away.
        """
        request = LeaseRequest(
            worker_id=worker_id, claim_id=self._claim_id, wait_s=wait_s, beside=beside
        )
        self._unanswered = request
        threading.Thread(target=self._ask, args=(request,), name="claim", daemon=True).start()
        answer = self._answer(request)
        if isinstance(answer, problems.Problem) and not isinstance(answer, problems.LeaseLost):
            raise answer
        self._unanswered = None
        leases = () if isinstance(answer, problems.LeaseLost) else answer.leases
        # An empty answer does not use up the id: a copy of the request that the network delivers late may still be
        # granted a lease, and only a repeat under the same id would find it. `LeaseLost` says that the id once got a
        # lease which has ended since.
        if leases or isinstance(answer, problems.LeaseLost):
            self._claim_id = uuid.uuid4()
        return next(iter(leases), None)

    def give_back(self, lease: Lease) -> None:
        """Release a lease whose trial was not started."""
        try:
            self._client.release(lease.lease_id, Release(reason="drain"))
        except problems.Problem as problem:
            log.warning(
                "%s/%d was not started here and could not be given back; it is free again when its lease expires: %s",
                lease.study,
                lease.trial_number,
                problem,
            )

    def forgo(self) -> None:
        """Release the lease that an unanswered claim may have got; a repeat of the claim tells which one.

        Raises:
            problems.Unavailable: the service is away.
        """
        if self._unanswered is None:
            return
        try:
            got = self._client.claim(self._unanswered.model_copy(update={"wait_s": 0.0})).leases
        except problems.Unavailable:
            raise
        except problems.Problem as problem:
            log.info("the last claim has no lease to give back: %s", problem)
            got = ()
        self._unanswered = None
        for lease in got:
            self.give_back(lease)
            self._claim_id = uuid.uuid4()

    def _ask(self, request: LeaseRequest) -> None:
        """Claim in a thread of its own: a claim may wait for `wait_s`, and a request to drain must not."""
        try:
            answer: Leases | problems.Problem = self._client.claim(request)
        except problems.Problem as problem:
            answer = problem
        except Exception as error:  # noqa: BLE001 - else the waiting thread would never get an answer
            answer = problems.Problem(f"{type(error).__name__}: {error}")
        self._events.put(ClaimAnswered(request.claim_id, answer))

    def _answer(self, request: LeaseRequest) -> Leases | problems.Problem:
        while True:
            match self._events.get(LOOK_EVERY_S):
                case ClaimAnswered(claim_id=request.claim_id, answer=answer):
                    return answer
                case DrainRequested():
                    self._leave()
                    return Leases(leases=())
                case None:
                    pass
                case event:
                    self._on_event(event)

    def _leave(self) -> None:
        try:
            self.forgo()
        except problems.Unavailable as problem:
            log.info(
                "the last claim may have got a lease, which could not be given back: %s",
                problem,
            )
