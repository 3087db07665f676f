"""Where a trial carries on: the recorded checkpoint, brought here whole, and an earlier one to fall back on."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.leases import Checkpoint, Lease
from worker import checkpoints
from worker.agent.backoff import Backoff
from worker.pipe_messages import SavedState

log = logging.getLogger(__name__)


class ServiceCalls(Protocol):
    """What resuming needs of the client."""

    def download(self, sha256: str, path: Path, /) -> Path:
        """Fetch a file's bytes; other bytes are refused."""
        ...


def fetch(
    lease: Lease, folder: Path, client: ServiceCalls, rest: Callable[[float], bool]
) -> tuple[SavedState, ...]:
    """Return the states to carry on from, the best first; none where training has to begin anew.

    Args:
        lease: of the trial.
        folder: this attempt's checkpoints.
        client: the service.
        rest: waits so many seconds for an unreachable service; false to give up.
    """
    if lease.resume is None:
        return ()
    newest = _bring(lease.resume, folder, client, rest)
    if lease.kind == "final":
        # Another epoch's weights would be another model.
        return () if newest is None else (newest,)
    earlier = checkpoints.earlier(folder, lease.resume)
    if newest is None and earlier is None and lease.previous is not None:
        earlier = _bring(lease.previous, folder, client, rest)
    found = (newest, earlier)
    return tuple(state for state in found if state is not None)


def _bring(
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
            log.warning("the checkpoint after step %d is gone: %s", wanted.step, error)
            return None
    return here
