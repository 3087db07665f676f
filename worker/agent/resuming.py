"""Fetches the checkpoints that a lease begins with: a trial's, and an earlier one to fall back on; a final lease's members'."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.leases import Checkpoint, Lease
from worker import checkpoints
from worker.agent.backoff import Backoff
from worker.pipe_messages import MemberStates, SavedState

log = logging.getLogger(__name__)


class ServiceCalls(Protocol):
    """What resuming needs of the client."""

    def download(self, sha256: str, path: Path, /) -> Path:
        """Fetch a file and check that its bytes have this sha256."""
        ...


def fetch(
    lease: Lease, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> tuple[SavedState, ...]:
    """Return the states to resume from, the one to try first at the front; none if training has to begin anew.

    Args:
        lease: the lease of the trial, which names the recorded checkpoints.
        folder: the folder for this attempt's checkpoints.
        client: the client of the service.
        rest: is called with the seconds to wait for an unreachable service; returns false to give up.
    """
    if lease.resume is None:
        return ()
    newest = _fetch_one(lease.resume, folder, client, rest)
    if lease.kind == "final":
        # The winner is the model of exactly this epoch: earlier weights would be another model, with another score.
        return () if newest is None else (newest,)
    # The newest state may be whole and yet not fit (a changed backbone file, say), which only the runner can tell. If
    # this machine has an earlier one it is named too. It is downloaded only when the newest cannot be had at all.
    earlier = checkpoints.earlier(folder, lease.resume)
    if newest is None and earlier is None and lease.previous is not None:
        earlier = _fetch_one(lease.previous, folder, client, rest)
    found = (newest, earlier)
    return tuple(state for state in found if state is not None)


def fetch_members(
    lease: Lease, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> tuple[MemberStates, ...]:
    """Return the states of a lease's members, in their order; the arguments are those of `fetch`."""
    if lease.kind == "refit" and not lease.recipe.adaptation_grid:
        # All that it takes over from its trial is in the lease.
        return ()
    has_given_up = False

    def go_on(seconds: float) -> bool:
        nonlocal has_given_up
        has_given_up = not rest(seconds)
        return not has_given_up

    def fetched(wanted: Checkpoint | None) -> SavedState | None:
        if wanted is None or has_given_up:
            return None
        return _fetch_one(wanted, folder, client, go_on)

    return tuple(
        MemberStates(
            validated=fetched(member.validated),
            refits=tuple(fetched(refit) for refit in member.refits),
        )
        for member in lease.members
    )


def _fetch_one(
    wanted: Checkpoint, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> SavedState | None:
    backoff = Backoff()
    here = checkpoints.local_copy(folder, wanted)
    while here is None:
        try:
            client.download(wanted.sha256, checkpoints.path_for(folder, wanted))
            return checkpoints.local_copy(folder, wanted)
        except problems.Unavailable:
            if not rest(backoff.next()):
                return None
        except (problems.Problem, OSError) as error:
            log.warning("the checkpoint of step %d cannot be fetched: %s", wanted.step, error)
            return None
    return here
