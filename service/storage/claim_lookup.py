"""What the fast path reads to serve many claims at once: their workers, and the studies with work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.domain.serving import Work
from service.storage.statements import Statement, array
from service.storage.turn import studies_with_work

# One round trip for both: the first column tells them apart.
CLAIM_FACTS = Statement(f"""
SELECT asked.place, w.capacity, (
           SELECT CAST(count(*) AS int) FROM trimtab.trials t
           WHERE t.worker_id = w.worker_id AND t.state = 'running'),
       w.state = 'alive' AND w.study_id IS NULL, w.last_seen < trimtab.now() - interval '10 seconds',
       EXISTS (SELECT FROM trimtab.attempts a WHERE a.worker_id = w.worker_id AND a.claim_id = asked.claim_id),
       ARRAY(SELECT a.study_id FROM trimtab.set_aside a WHERE a.worker_id = w.worker_id),
       NULL::int, NULL::timestamptz, NULL::int, NULL::int, NULL::text, NULL::bool,
       NULL::bool, w.gpu_memory_gb, w.devices
FROM unnest(CAST(:worker_ids AS uuid[]), CAST(:claim_ids AS uuid[])) WITH ORDINALITY AS asked (worker_id, claim_id, place)
JOIN trimtab.workers w ON w.worker_id = asked.worker_id
UNION ALL (
SELECT NULL, c.study_id, CAST(c.running AS int), c.has_queued, c.may_propose, c.data IS NULL, NULL, c.priority, c.created_at,
       c.trials_created, c.trials_limit, c.name, c.has_paused, c.one_at_a_time,
       coalesce(c.gpu_memory_gb, 0), c.devices_per_trial
FROM {studies_with_work(open_to="NOT s.external")})""")

MARK_SEEN = Statement("""
UPDATE trimtab.workers SET last_seen = trimtab.now() WHERE worker_id = ANY(CAST(:quiet_ids AS uuid[]))
RETURNING 1""")


@dataclass(frozen=True, slots=True)
class Asking:
    """The worker of a claim.

    Attributes:
        capacity: the leases that it may hold at once.
        running: the leases that it holds.
        is_ready: it is neither gone nor quarantined, nor a loop of a person's own, which the full path serves.
        is_quiet: it was last seen so long ago that the time is to be noted anew.
        has_claimed: it has got a lease under this very claim id.
        set_aside: the ids of the studies that it gets no trials of.
        gpu_memory_gb: the most that a study may need of its device.
        devices: the number of devices that it offers.
    """

    capacity: int
    running: int
    is_ready: bool
    is_quiet: bool
    has_claimed: bool
    set_aside: Sequence[int]
    gpu_memory_gb: float
    devices: int

    def may_take(self, taking: int) -> bool:
        """Whether a slot is free for one more lease, when `taking` others are just being given to it."""
        return self.is_ready and not self.has_claimed and self.running + taking < self.capacity


def bind(worker_ids: Sequence[UUID], claim_ids: Sequence[UUID]) -> dict[str, Any]:
    """What `CLAIM_FACTS` binds."""
    return {"worker_ids": array(worker_ids), "claim_ids": array(claim_ids)}


def seen(rows: Sequence[tuple[Any, ...]]) -> tuple[dict[int, Asking], list[Work]]:
    """The rows of `CLAIM_FACTS`: known workers by the place of their claim, from 0, and the studies with work."""
    asking = {
        row[0] - 1: Asking(*row[1:7], gpu_memory_gb=row[-2], devices=row[-1])
        for row in rows
        if row[0] is not None
    }
    return asking, [_work(row) for row in rows if row[0] is None]


def _work(row: tuple[Any, ...]) -> Work:
    (
        _,
        study_id,
        running,
        has_queued,
        may_propose,
        is_probed_next,
        _,
        priority,
        created_at,
        created,
        limit,
        name,
        has_paused,
        one_at_a_time,
        gpu_memory_gb,
        devices_per_trial,
    ) = row
    return Work(
        study_id,
        name,
        priority,
        running,
        created_at,
        created,
        limit,
        has_queued,
        may_propose,
        has_paused,
        is_probed_next,
        one_at_a_time,
        gpu_memory_gb,
        devices_per_trial,
    )
