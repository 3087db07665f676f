"""Fetches what a study's trials answered to the validation split, from which its final lease tells what the choice is worth."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import UUID

from trimtab.contract import problems
from trimtab.contract.leases import Lease
from trimtab.contract.validation_outputs import TrialOutputs, TrialOutputsPage
from worker import trial_outputs
from worker.agent.backoff import Backoff

log = logging.getLogger(__name__)

_NAME = "validation-outputs.jsonl"


class ServiceCalls(Protocol):
    """What fetching the answers needs of the client."""

    def validation_outputs(self, lease_id: UUID, /, *, start: int = 0) -> TrialOutputsPage:
        """Return some trials' answers, from a trial number on."""
        ...


def fetch(
    lease: Lease, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> Path | None:
    """Return the file of the answers; None if the lease needs none, or they cannot be had: a report does without them.

    Args:
        lease: the lease; only a final lease that names its members needs the answers.
        folder: the folder for this attempt's files.
        client: the client of the service.
        rest: is called with the seconds to wait for an unreachable service; returns false to give up.
    """
    if lease.kind != "final" or not lease.members:
        return None
    path = folder / _NAME
    try:
        trials = _fetch_all(lease, client, rest)
        if trials:
            trial_outputs.write(path, trials)
    except (problems.Problem, OSError) as error:
        log.warning("what trials answered to the validation split cannot be fetched: %s", error)
        return None
    return path if trials else None


def _fetch_all(
    lease: Lease, client: ServiceCalls, rest: Callable[[float], bool]
) -> tuple[TrialOutputs, ...]:
    backoff = Backoff()
    found: tuple[TrialOutputs, ...] = ()
    start: int | None = 0
    while start is not None:
        try:
            page = client.validation_outputs(lease.lease_id, start=start)
        except problems.Unavailable:
            if not rest(backoff.next()):
                return ()
            continue
        # After each page, so that no more than two pages are in memory however many trials there are.
        if page.trials:
            found = trial_outputs.kept((*found, *page.trials), lease.task.direction)
        start = page.next
    return found
