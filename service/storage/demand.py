"""Demand in SQL: the leases that claims could get now, and those that are held, by what the studies need."""

from dataclasses import dataclass

from sqlalchemy import Connection

from service.storage.external import IS_PROBE
from service.storage.leases import HAS_ROOM, NO_PROGRESS, WALL_TIME_OVER
from service.storage.statements import Statement
from service.storage.taking_up import MAY_TAKE_UP


@dataclass(frozen=True, slots=True)
class DemandRow:
    """The demand of all studies with the same needs; `gpu_memory_gb` is 0 where they need no GPU."""

    gpu_memory_gb: float
    devices_per_trial: int
    waiting: int
    leased: int


# Which paused trials the search takes up is its decision, which nothing here asks for: where nothing else is left to do,
# one worker comes and asks. While trials run, it is their workers that ask.
_BY_NEED = Statement(f"""
SELECT coalesce(s.gpu_memory_gb, 0) AS gpu_memory_gb, s.devices_per_trial, CAST(sum(d.waiting) AS int), CAST(sum(d.leased) AS int)
FROM trimtab.studies s
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE t.state = 'running') AS leased,
           count(*) FILTER (WHERE t.state = 'running' AND t.kind = 'trial') AS running,
           count(*) FILTER (WHERE t.state = 'queued' AND t.not_before <= trimtab.now() AND t.kind = 'trial') AS queued,
           count(*) FILTER (WHERE t.state = 'queued' AND t.not_before <= trimtab.now() AND t.kind <> 'trial') AS others
    FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.state IN ('queued', 'running', 'paused')) n
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.state IN ('active', 'stopping', 'finalising') AND NOT {WALL_TIME_OVER} AND {HAS_ROOM} THEN
        least(n.queued + CASE WHEN s.state = 'active' AND NOT s.exhausted AND NOT {NO_PROGRESS}
                              THEN s.trials_limit - s.trials_created ELSE 0 END,
              s.parallel - n.running,
              CASE WHEN s.limits IS NOT NULL THEN trimtab.epochs_left(s.study_id) END) ELSE 0 END AS trials) w
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.state NOT IN ('active', 'stopping', 'finalising') THEN 0
                WHEN {IS_PROBE} THEN CASE WHEN n.leased > 0 THEN 0 ELSE least(w.trials + n.others, 1) END
                WHEN n.leased + w.trials + n.others = 0 AND {MAY_TAKE_UP} THEN 1
                ELSE w.trials + n.others END AS waiting, n.leased) d
WHERE NOT s.external AND s.state NOT IN ('done', 'deleting') AND d.waiting + d.leased > 0
  AND (CAST(:gpu_memory_gb AS float8) IS NULL OR coalesce(s.gpu_memory_gb, 0) <= :gpu_memory_gb)
  AND (CAST(:devices AS int) IS NULL OR s.devices_per_trial <= :devices)
GROUP BY 1, 2 ORDER BY 1, 2""")


def by_need(
    connection: Connection, gpu_memory_gb: float | None, devices: int | None
) -> list[DemandRow]:
    """Count the leases that could be served now and those that are held; the least need comes first.

    Args:
        connection: one of `Database`.
        gpu_memory_gb: leave out the studies that need more than a GPU of this size; None: leave out none.
        devices: leave out the studies whose trials need more devices than that; None: leave out none.
    """
    rows = _BY_NEED.rows(connection, gpu_memory_gb=gpu_memory_gb, devices=devices)
    return [DemandRow(*row) for row in rows]
