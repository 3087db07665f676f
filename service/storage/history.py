"""A study's trials as the sampler's history reads them: all of them once, then only what changed."""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, text

from service.domain.facts import Changes, Cursor, TrialFacts
from service.storage.statements import Statement

CHUNK = 100
"""Rows parsed at a time: few enough that other threads go on, and that the lists do not live to be collected."""

_TRIALS = """
SELECT CAST(CAST(f.floor AS text) AS bigint), t.number, t.state, CAST(t.hyperparameters AS text),
       coalesce(CAST(t.curve AS text), (
           SELECT CAST(jsonb_agg(jsonb_build_array(v.step, v.intermediate_value) ORDER BY v.step) AS text)
           FROM public.trial_intermediate_values v WHERE v.trial_id = t.trial_id), '[]'),
       t.value, t.error_kind, t.runs_until, t.paused_by_search,
       CASE WHEN NOT t.feasible THEN (
           SELECT sum(greatest(CAST(v.share AS float8), 0)) FROM jsonb_array_elements_text(t.violations) v (share)) END,
       CASE WHEN t.violations IS NOT NULL THEN (
           SELECT max(CAST(v.share AS float8)) FROM jsonb_array_elements_text(t.violations) v (share)) END,
       t.second_value, f.validation_rows
FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS floor,
             (SELECT CAST(s.data -> 'pictures' ->> 'validation' AS int) FROM trimtab.studies s
              WHERE s.study_id = :study_id) AS validation_rows) f
LEFT JOIN trimtab.trials t ON t.study_id = :study_id AND t.kind = 'trial'"""

_ALL = Statement(f"{_TRIALS} ORDER BY t.number")

_CHANGED = Statement(f"""{_TRIALS} AND t.trial_id IN (
    SELECT e.trial_id FROM trimtab.events e WHERE e.study_id = :study_id AND e.xid >= CAST(:xid AS xid8))
ORDER BY t.number""")


def changes(connection: Connection, study_id: int, cursor: Cursor | None) -> Changes:
    """The study's trials that changed since the cursor, as they are now; None reads all.

    What transactions above the new cursor did is told too, where it is visible, and will be told again: telling is
    idempotent, and so a reader always sees its own writes.
    """
    if cursor is None:
        connection.execute(
            text("SET statement_timeout = '60s'")
        )  # 50,000 trials are not read in 5 s under load
        try:
            rows = _ALL.rows(connection, study_id=study_id)
        finally:
            connection.execute(text("RESET statement_timeout"))
    else:
        rows = _CHANGED.rows(connection, study_id=study_id, xid=str(cursor[0]))
    return Changes(tuple(_facts(rows)), (rows[0][0], 0), rows[0][12])


def _facts(rows: list[tuple[Any, ...]]) -> Iterable[TrialFacts]:
    found = [row for row in rows if row[1] is not None]
    for start in range(0, len(found), CHUNK):
        yield from _some_facts(found[start : start + CHUNK])


def _some_facts(rows: list[tuple[Any, ...]]) -> Iterable[TrialFacts]:
    # Two parses for a chunk, not two for each row: most of the time of a first reading was json's overhead per call.
    values = json.loads(f"[{','.join(row[3] for row in rows)}]")
    curves = json.loads(f"[{','.join(row[4] for row in rows)}]")
    for row, hyperparameters, curve in zip(rows, values, curves, strict=True):
        yield TrialFacts(row[1], row[2], hyperparameters, tuple(map(tuple, curve)), *row[5:12])
