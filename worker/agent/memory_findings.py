"""The findings about device memory of earlier trainings, which the service keeps."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.memory import MemoryFinding, MemoryFindings

log = logging.getLogger(__name__)

ASK_AGAIN_S = 300.0


class ServiceCalls(Protocol):
    """What `Memory` needs of the client."""

    def memory(self, backbone: str, /) -> MemoryFindings:
        """Return the findings about a backbone."""
        ...

    def remember_memory(self, lease_id: UUID, finding: MemoryFinding, /) -> None:
        """Store a finding of a training."""
        ...


class Memory:
    """A cache of the findings; a request that fails never fails a trial. Threads may share it.

    Args:
        client: the client of the service.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self, client: ServiceCalls, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[MemoryFinding, ...]]] = {}

    def of(self, backbone: str) -> tuple[MemoryFinding, ...]:
        """Return the findings about a backbone; those known before while the service is away."""
        with self._lock:
            asked_at, known = self._known.get(backbone, (float("-inf"), ()))
            if self._clock() - asked_at < ASK_AGAIN_S:
                return known
            # The time is noted before the request: slots that start trials at the same moment then use what is known,
            # and one of them asks.
            self._known[backbone] = (self._clock(), known)
        try:
            found = self._client.memory(backbone).findings
        except problems.Problem as problem:
            log.info("memory findings for %s could not be fetched: %s", backbone, problem)
            return known
        with self._lock:
            self._known[backbone] = (self._clock(), found)
        return found

    def tell(self, lease_id: UUID, finding: MemoryFinding) -> None:
        """Store a finding here and at the service."""
        with self._lock:
            asked_at, known = self._known.get(finding.backbone, (float("-inf"), ()))
            self._known[finding.backbone] = (asked_at, (*known, finding))
        try:
            self._client.remember_memory(lease_id, finding)
        except problems.Problem as problem:
            log.info("a memory finding was not stored at the service: %s", problem)
