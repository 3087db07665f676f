"""Tells the service what a trial found and what its epochs brought; while it is away, training goes on and these wait.

The record comes first: the service holds it against the data that the study began with, and until it has, nothing that
was learned from other data may be told.
"""

import logging
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Answer, Report, Reports, Verdict
from trimtab.contract.records import TrialRecord
from worker.agent.backoff import Backoff
from worker.agent.lease_keeper import LOST
from worker.agent.spool import PASSING, REPORTS_AT_ONCE

log = logging.getLogger(__name__)


class ServiceCalls(Protocol):
    """What a reporter needs of the client."""

    def record(self, lease_id: UUID, record: TrialRecord, /) -> None:
        """Store the record of what was found when the attempt began."""
        ...

    def report(self, lease_id: UUID, reports: Reports, /) -> Answer:
        """Store intermediate values."""
        ...


class Reporter:
    """Reports the epochs of one lease.

    Args:
        client: the client of the service.
        lease_id: the lease whose epochs are reported.
        renewed: is called with the ttl in seconds when a report has renewed the lease.
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: ServiceCalls,
        lease_id: UUID,
        renewed: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._lease_id = lease_id
        self._renewed = renewed
        self._clock = clock
        self._backoff = Backoff()
        self._quiet_until = 0.0
        self._pending: list[Report] = []
        self._record: TrialRecord | None = None

    @property
    def record(self) -> TrialRecord | None:
        """The record, while the service has not acknowledged it."""
        return self._record

    @property
    def pending(self) -> tuple[Report, ...]:
        """The reports that the service has not acknowledged."""
        return tuple(self._pending)

    def begin(self, record: TrialRecord) -> problems.Problem | None:
        """Send the record; return the problem if it was not stored. One that may pass is sent again before any report.

        Raises:
            problems.Problem: the lease is lost; the problem is one of `LOST`.
        """
        self._record = record
        return self._send_record()

    def remind(self) -> None:
        """Send the record again if the service has not acknowledged it, unless it is away.

        Raises:
            problems.Problem: the lease is lost; the problem is one of `LOST`.
        """
        if self._clock() >= self._quiet_until:
            self._send_record()

    def report(self, report: Report) -> Verdict:
        """Send this report and those that wait; return the verdict, or `continue` while the service is away.

        Raises:
            problems.Problem: the lease is lost; the problem is one of `LOST`.
        """
        self._pending.append(report)
        # The runner waits for this verdict, and epochs may be short. While the service is away no request is made, so
        # that not every epoch waits for a timeout.
        if self._clock() < self._quiet_until:
            return "continue"
        self._send_record()
        if self._record is not None:
            return "continue"
        batch = Reports(reports=tuple(self._pending[:REPORTS_AT_ONCE]))
        try:
            answer = self._client.report(self._lease_id, batch)
        except LOST:
            raise
        except problems.Problem as problem:
            self._cope(problem)
            return "continue"
        del self._pending[:REPORTS_AT_ONCE]
        self._backoff.reset()
        self._renewed(answer.ttl_s)
        return answer.verdict

    def _send_record(self) -> problems.Problem | None:
        if self._record is None:
            return None
        try:
            self._client.record(self._lease_id, self._record)
        except LOST:
            raise
        except problems.Problem as problem:
            if _may_pass(problem):
                log.warning(
                    "the trial's record was not stored, it is sent again later: %s", problem
                )
                self._quiet_until = self._clock() + self._backoff.next()
            else:
                # It informs a reader; a trial without it is still a good trial.
                log.warning("the trial's record was refused, training goes on: %s", problem)
                self._record = None
            return problem
        self._record = None
        return None

    def _cope(self, problem: problems.Problem) -> None:
        step = self._pending[-1].step
        if _may_pass(problem):
            log.warning("step %d was not reported, it is sent again later: %s", step, problem)
            self._quiet_until = self._clock() + self._backoff.next()
        else:
            # To send again what the service refuses would hold back every later report.
            log.warning("the service refused the reports up to step %d: %s", step, problem)
            del self._pending[:REPORTS_AT_ONCE]


def _may_pass(problem: problems.Problem) -> bool:
    return isinstance(problem, PASSING) or problems.row_of(type(problem)).status >= 500
