"""When silence is no reason to revoke a lease: the workers may have spoken where nobody could hear them.

Two rules guard the sweep. The amnesty: after a time in which no replica could sweep, the database was away or the service
was, so leases begin anew. The brake: when most of many workers fall silent at once, a partition between them and the service
is likelier than the death of them all, so their leases get one more time to live, once
(as the Kubernetes node lifecycle controller slows its evictions,
https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from uuid import UUID

SHORTEST_SILENCE_S = 1.0
"""A shorter pause between two sweeps is no outage."""
FEWEST_OF_A_MASS = 4
SWEEPS_PER_LEASE = 4
"""So often is a lease looked at in its time to live, so that the pause between two sweeps is no outage."""


CRASHES_OF_A_BAD_WORKER = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt of a worker ended."""

    lease_id: UUID
    trial_id: int
    crashed: bool
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Running:
    """The running leases as a sweep finds them, before it touches any. Durations in seconds."""

    workers: int
    """Those that hold leases; one that trains heads together holds many."""
    silent_workers: int
    """Those of them whose leases have all run out."""
    expired: int
    """Leases."""
    shortest_ttl_s: float | None
    """None where nothing runs."""
    longest_expired_ttl_s: float | None


def amnesty_below_ttl_s(silence_s: float) -> float:
    """Leases whose time to live is below this begin anew, after no replica has swept for `silence_s`.

    Half a time to live of silence can cost a healthy worker its lease: it renews at a quarter, and needs a moment to
    notice that the service is back.
    """
    return 2 * silence_s if silence_s > SHORTEST_SILENCE_S else 0.0


def holds_back(running: Running, held_s: float | None) -> bool:
    """Whether to leave a mass expiry alone for now.

    Args:
        running: the leases that the sweep has found.
        held_s: the seconds for which it has been left alone already; None: it was not there before.
    """
    if running.longest_expired_ttl_s is None or not is_mass(running):
        return False
    return held_s is None or held_s < running.longest_expired_ttl_s


def is_mass(running: Running) -> bool:
    """Whether more than half of at least four workers are silent."""
    return running.workers >= FEWEST_OF_A_MASS and 2 * running.silent_workers > running.workers


def pause_s(running: Running, longest_s: float) -> float:
    """Seconds until the next sweep: as asked, but short enough for the shortest lease."""
    if running.shortest_ttl_s is None:
        return longest_s
    return min(longest_s, running.shortest_ttl_s / SWEEPS_PER_LEASE)


def crashes_in_a_row(newest: Sequence[Ended]) -> list[Ended]:
    """Those of a worker's attempts, the newest first, since which none has ended well."""
    return list(takewhile(lambda ended: ended.crashed, newest))


def fails_everything(crashes: Sequence[Ended], *, others_succeeded_at: datetime | None) -> bool:
    """Whether it is the worker that fails, not its trials: three crashes, one after another, at different trials.

    Args:
        crashes: the worker's last attempts as far as all of them crashed, the newest first.
        others_succeeded_at: the time at which another worker last completed or pruned a trial; if that was before the
            first of the three began, it may be the study that fails.
    """
    last = _one_after_another(crashes)[:CRASHES_OF_A_BAD_WORKER]
    trials = {crash.trial_id for crash in last}
    if len(trials) < CRASHES_OF_A_BAD_WORKER or others_succeeded_at is None:
        return False
    return others_succeeded_at >= last[-1].started_at


def _one_after_another(crashes: Sequence[Ended]) -> list[Ended]:
    """One of those that ran at the same time: they had one training process, which died once."""
    apart: list[Ended] = []
    for crash in crashes:
        if not apart or crash.ended_at <= apart[-1].started_at:
            apart.append(crash)
    return apart
