"""The protocol as workers meet it: its verbs on the fast path, on an event loop of the test's own."""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import UUID

from service.storage.async_connection import AsyncConnection
from service.storage.statements import Statement
from service.use_cases.fast import FastPath
from tests.support.protocol import AnyLease, Service, a_claim, external_of
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import Lease, Leases, Outcome, Report, Reports, Verdict
from trimtab.contract.trials import TrialState

A = TypeVar("A")


@dataclass(frozen=True)
class FastService(Service):
    """A service whose claims, reports and outcomes take the fast path where they can."""

    fast_path: FastPath
    loop: asyncio.AbstractEventLoop

    def claim(
        self,
        worker: UUID,
        *,
        claim_id: UUID | None = None,
        capacity: int = 1,
        beside: str | None = None,
    ) -> Sequence[Lease]:
        """Claim; a new claim unless `claim_id` repeats an old one."""
        request = a_claim(worker, claim_id=claim_id, capacity=capacity, beside=beside)
        found = self.wait_for(self.fast_path.claim(request))
        assert isinstance(found, Leases)
        return found.leases

    def claim_external(self, worker: UUID) -> Sequence[ExternalLease]:
        """Claim as a loop of a person's own."""
        found = self.wait_for(self.fast_path.claim(a_claim(worker)))
        return external_of(found)

    def report(self, lease: AnyLease, *values: float | None, step: int = 0) -> Verdict:
        """Report values of consecutive steps in one batch."""
        reports = tuple(Report(step=step + n, value=value) for n, value in enumerate(values))
        batch = Reports(reports=reports)
        return self.wait_for(self.fast_path.report(lease.lease_id, batch)).verdict

    def settle(self, lease: AnyLease, outcome: Outcome) -> TrialState:
        """End the lease with an outcome."""
        return self.wait_for(self.fast_path.settle(lease.lease_id, outcome)).state

    def wait_for(self, verb: Coroutine[Any, Any, A]) -> A:
        """Run it on the loop; may be called from any other thread."""
        return asyncio.run_coroutine_threadsafe(verb, self.loop).result()

    def together(self, *verbs: Coroutine[Any, Any, Any]) -> list[Any]:
        """Begin all of them before the loop does anything else; what each answered or raised."""

        async def begin() -> list[Any]:
            return await asyncio.gather(*verbs, return_exceptions=True)

        with patch.object(AsyncConnection, "rows", _once_all_have_begun):
            return self.wait_for(begin())


_rows = AsyncConnection.rows


async def _once_all_have_begun(
    connection: AsyncConnection, *statements: Statement, **named: Any
) -> Any:
    """A database that answers before the loop looks up would leave nobody to wait for the first."""
    await asyncio.sleep(0)
    return await _rows(connection, *statements, **named)


@contextmanager
def on_fast_path(service: Service) -> Generator[FastService]:
    """The same service on the fast path, while the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    fast_path = FastPath(service.context)
    try:
        yield FastService(service.context, service.clock, fast_path, loop)
    finally:
        loop.call_soon_threadsafe(fast_path.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
