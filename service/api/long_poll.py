"""Claims that wait for work, by whichever door they came."""

import time
from dataclasses import dataclass

from starlette.requests import Request

from service.api.dependencies import refuse_if_leaving
from service.housekeeping import Readiness
from service.use_cases.fast import FastPath
from service.waiting import Waiters, wait
from trimtab.contract.external_leases import ExternalLeases
from trimtab.contract.leases import LeaseRequest, Leases


@dataclass(frozen=True)
class LongPoll:
    """Claims, and claims again at every ring while the request may wait.

    Without a ring there is nothing new: a thousand workers that wait cost one look each in `wait_s` seconds.

    Attributes:
        fast_path: serves the claims.
        waiters: the bell that rings when there is new work.
        readiness: says when this replica is about to leave.
    """

    fast_path: FastPath
    waiters: Waiters
    readiness: Readiness

    async def claim(
        self, request: LeaseRequest, http: Request
    ) -> Leases | ExternalLeases | None:
        """Claim until there is work; None: there was none within `wait_s` seconds, or the worker has hung up.

        Raises:
            Unavailable: this replica is about to leave.
            Problem: all that `claims.claim` refuses.
        """
        deadline = time.monotonic() + request.wait_s
        while True:
            bell = self.waiters.arm()  # before the look, so that no ring is missed
            got = await self.fast_path.claim(request)
            left = deadline - time.monotonic()
            if got.leases:
                return got
            refuse_if_leaving(self.readiness)
            # A trial is not given to a worker that has hung up meanwhile.
            if left <= 0 or not await wait(bell, left) or await http.is_disconnected():
                return None
