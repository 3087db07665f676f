"""Asking for work without ever losing what was granted."""

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
        """Give a trial back."""
        ...


class Claimer:
    """Claims one lease at a time.

    Args:
        client: the service.
        events: where the answer comes in, and the word to leave.
        heed: is given every other event that comes meanwhile.
    """

    def __init__(
        self, client: ServiceCalls, events: EventQueue, heed: Callable[[Event], None]
    ) -> None:
        self._client = client
        self._events = events
        self._heed = heed
        self._claim_id = uuid.uuid4()
        self._unanswered: LeaseRequest | None = None

    def claim(
        self, worker_id: UUID, wait_s: float, *, beside: str | None = None
    ) -> Lease | None:
        """Ask for a trial; None when there is none, or the agent was told to leave.

        The claim's id changes only once it has got a lease: one whose answer was lost is given again, and so is one
        that a copy of the request has got which came late.

        Args:
            worker_id: who asks.
            wait_s: how long the service may wait for one.
            beside: the study that it must be of.

        Raises:
            problems.Problem: the service refuses, or is away.
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
        if leases or isinstance(answer, problems.LeaseLost):
            self._claim_id = uuid.uuid4()
        return next(iter(leases), None)

    def give_back(self, lease: Lease) -> None:
        """Release a lease that was not begun."""
        try:
            self._client.release(lease.lease_id, Release(reason="drain"))
        except problems.Problem as problem:
            log.warning("a lease that was not begun could not be given back: %s", problem)

    def forgo(self) -> None:
        """Release what the last claim may have got, if it was never answered: a repeat says what that is.

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
            log.info("nothing could be given back: %s", problem)
            got = ()
        self._unanswered = None
        for lease in got:
            self.give_back(lease)
            self._claim_id = uuid.uuid4()

    def _ask(self, request: LeaseRequest) -> None:
        """Claim in a thread, so that the main one hears a word to leave meanwhile."""
        try:
            answer: Leases | problems.Problem = self._client.claim(request)
        except problems.Problem as problem:
            answer = problem
        except Exception as error:  # noqa: BLE001 - or nobody would ever answer the main thread
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
                    self._heed(event)

    def _leave(self) -> None:
        try:
            self.forgo()
        except problems.Unavailable as problem:
            log.info("nothing could be given back: %s", problem)
