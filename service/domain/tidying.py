"""When silence is no reason to revoke a lease: the workers may have spoken where nobody could hear them.

Two rules guard the sweep. The amnesty: after a time in which no replica could sweep, the database was away or the service
was, so leases begin anew. The brake: when most of many leases run out at once, a partition between workers and service is
likelier than the death of them all, so they get one more time to live, once
(as the Kubernetes node lifecycle controller slows its evictions,
https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction).
"""

from collections.abc import Sequence
from dataclasses import dataclass

SHORTEST_SILENCE_S = 1.0
"""A shorter pause between two sweeps is no outage."""
FEWEST_OF_A_MASS = 4
SWEEPS_PER_LEASE = 4
"""So often is a lease looked at in its time to live, so that the pause between two sweeps is no outage."""


CRASHES_OF_A_BAD_WORKER = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt of a worker ended."""

    trial_id: int
    crashed: bool


@dataclass(frozen=True, slots=True)
class Running:
    """The running leases as a sweep finds them, before it touches any. Durations in seconds."""

    count: int
    expired: int
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
        running: what the sweep finds.
        held_s: for how long it has been left alone already; None when it was not there before.
    """
    if running.longest_expired_ttl_s is None or not is_mass(running):
        return False
    return held_s is None or held_s < running.longest_expired_ttl_s


def is_mass(running: Running) -> bool:
    """Whether more than half of at least four leases have run out."""
    return running.count >= FEWEST_OF_A_MASS and 2 * running.expired > running.count


def pause_s(running: Running, longest_s: float) -> float:
    """Seconds until the next sweep: as asked, but short enough for the shortest lease."""
    if running.shortest_ttl_s is None:
        return longest_s
    return min(longest_s, running.shortest_ttl_s / SWEEPS_PER_LEASE)


def fails_everything(newest: Sequence[Ended], *, others_succeed: bool) -> bool:
    """Whether it is the worker that fails, not its trials: its newest attempts, at different trials, all crashed.

    Args:
        newest: how the worker's newest attempts ended, at least the last three.
        others_succeed: whether another worker has completed or pruned a trial meanwhile; otherwise it may be the study.
    """
    last = newest[:CRASHES_OF_A_BAD_WORKER]
    trials = {ended.trial_id for ended in last if ended.crashed}
    return others_succeed and len(trials) == CRASHES_OF_A_BAD_WORKER
