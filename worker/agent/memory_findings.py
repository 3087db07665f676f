"""What earlier trainings took of their devices' memory, as far as the service remembers it."""

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
    """What it needs of the client."""

    def memory(self, backbone: str, /) -> MemoryFindings:
        """Return what is known of a backbone."""
        ...

    def remember_memory(self, lease_id: UUID, finding: MemoryFinding, /) -> None:
        """Tell what a training took."""
        ...


class Memory:
    """Asks seldom, and tells without ever failing a trial for it. Threads may share it.

    Args:
        client: the service.
        clock: seconds that only go forward.
    """

    def __init__(
        self, client: ServiceCalls, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[MemoryFinding, ...]]] = {}

    def of(self, backbone: str) -> tuple[MemoryFinding, ...]:
        """Return the findings about a backbone; nothing new while the service is away."""
        with self._lock:
            asked_at, known = self._known.get(backbone, (float("-inf"), ()))
            if self._clock() - asked_at < ASK_AGAIN_S:
                return known
            # Whoever else wants to know meanwhile goes by what is known.
            self._known[backbone] = (self._clock(), known)
        try:
            found = self._client.memory(backbone).findings
        except problems.Problem as problem:
            log.info("what is known of %s's memory cannot be had: %s", backbone, problem)
            return known
        with self._lock:
            self._known[backbone] = (self._clock(), found)
        return found

    def tell(self, lease_id: UUID, finding: MemoryFinding) -> None:
        """Remember a finding here and at the service."""
        with self._lock:
            asked_at, known = self._known.get(finding.backbone, (float("-inf"), ()))
            self._known[finding.backbone] = (asked_at, (*known, finding))
        try:
            self._client.remember_memory(lease_id, finding)
        except problems.Problem as problem:
            log.info("a finding about memory is not stored: %s", problem)
