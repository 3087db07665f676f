"""What must hold in the tables after every step, as queries that return what breaks it.

The numbers are those of the lease protocol's invariants; each query is written against the tables alone and knows
nothing of the code that filled them.
"""

from collections.abc import Mapping

from service.storage.engine import Database
from service.storage.statements import Statement

INVARIANTS: Mapping[str, str] = {
    "I1 the budget is never exceeded, and its counter counts": """
        SELECT s.name FROM trimtab.studies s
        LEFT JOIN trimtab.trials t ON t.study_id = s.study_id AND t.kind = 'trial'
        GROUP BY s.study_id HAVING s.trials_created > s.trials_limit OR s.trials_created <> count(t.trial_id)""",
    "I2 a running trial has one open attempt, any other has none": """
        SELECT t.trial_id FROM trimtab.trials t
        LEFT JOIN trimtab.attempts a ON (a.trial_id, a.kind, a.seed_index) = (t.trial_id, t.kind, t.seed_index) AND a.ended_at IS NULL
        GROUP BY t.trial_id, t.kind, t.seed_index
        HAVING count(a) <> CASE t.state WHEN 'running' THEN 1 ELSE 0 END
            OR t.state = 'running' AND min(a.lease_id::text) <> t.lease_id::text""",
    "I3 fences count the attempts of a trial, and the newest attempt has the trial's fence": """
        SELECT t.trial_id FROM trimtab.trials t
        LEFT JOIN trimtab.attempts a ON (a.trial_id, a.kind, a.seed_index) = (t.trial_id, t.kind, t.seed_index)
        GROUP BY t.trial_id, t.kind, t.seed_index
        HAVING t.fence <> count(a) OR t.fence <> coalesce(max(a.fence), 0)""",
    "I4 every report lies within its attempt": """
        SELECT r.trial_id FROM trimtab.reports r LEFT JOIN trimtab.attempts a
            ON (a.trial_id, a.kind, a.fence) = (r.trial_id, 'trial', r.fence)
        WHERE a.lease_id IS NULL OR r.at NOT BETWEEN a.started_at AND coalesce(a.ended_at, 'infinity')""",
    "I4 an event of a trial was said under the fence that held it then": """
        SELECT e.id FROM trimtab.events e
        JOIN LATERAL (SELECT max(o.fence) AS fence FROM trimtab.events o
                      WHERE o.trial_id = e.trial_id AND o.id < e.id
                        AND (o.kind LIKE 'final%') = (e.kind LIKE 'final%')
                        AND (o.kind LIKE 'refit%') = (e.kind LIKE 'refit%')
                        AND o.body -> 'seed_index' IS NOT DISTINCT FROM e.body -> 'seed_index') before ON true
        WHERE e.fence < before.fence""",
    "I5 nothing is accepted after a trial's end": """
        SELECT e.id FROM trimtab.events e JOIN trimtab.events o ON o.trial_id = e.trial_id AND o.id < e.id
        WHERE o.kind IN ('trial_completed', 'trial_pruned', 'trial_failed', 'trial_cancelled')
          AND e.kind NOT LIKE 'final%' AND e.kind NOT LIKE 'refit%'
          -- But a person has a failed trial tried again.
          AND NOT (o.kind = 'trial_failed' AND EXISTS (
              SELECT FROM trimtab.events r WHERE r.trial_id = e.trial_id AND r.kind = 'trial_retried'
              AND r.id > o.id AND r.id <= e.id))""",
    "I7 Optuna's intermediate value is that of the newest attempt": """
        SELECT * FROM (
            SELECT DISTINCT ON (trial_id, step) trial_id, step, value FROM trimtab.reports
            ORDER BY trial_id, step, fence DESC) r
        FULL JOIN public.trial_intermediate_values v USING (trial_id, step)
        WHERE r.trial_id IS NULL OR v.trial_id IS NULL OR r.value IS DISTINCT FROM v.intermediate_value
           OR (v.intermediate_value_type = 'NAN') <> (r.value IS NULL)""",
    "I8 a completed trial has one completed event, and one value everywhere": """
        SELECT t.trial_id FROM trimtab.trials t
        LEFT JOIN public.trial_values v USING (trial_id)
        LEFT JOIN trimtab.events e ON e.trial_id = t.trial_id AND e.kind = 'trial_completed'
        WHERE t.kind = 'trial' AND t.state = 'completed' GROUP BY t.trial_id, t.kind, t.seed_index
        HAVING count(*) <> 1 OR min(v.value) IS DISTINCT FROM t.value
            OR min((e.body ->> 'value')::float8) IS DISTINCT FROM t.value""",
    "I8 only completed and pruned trials have a value": """
        SELECT v.trial_id FROM public.trial_values v JOIN trimtab.trials t USING (trial_id)
        WHERE t.kind = 'trial' AND t.state NOT IN ('completed', 'pruned')""",
    "I9 Optuna's state is the mapping of ours, with no ghost and no orphan": """
        SELECT coalesce(p.trial_id, t.trial_id) FROM public.trials p
        FULL JOIN (SELECT * FROM trimtab.trials WHERE kind = 'trial') t USING (trial_id)
        WHERE p.trial_id IS NULL OR t.trial_id IS NULL OR p.number <> t.number OR p.study_id <> t.study_id
           OR p.state::text <> CASE WHEN t.state IN ('queued', 'paused') THEN 'WAITING'
                                    WHEN t.state = 'running' THEN 'RUNNING'
                                    WHEN t.state = 'completed' THEN 'COMPLETE'
                                    WHEN t.state = 'pruned' OR t.state = 'failed' AND t.error_kind IN ('oom', 'diverged', 'recipe_unfit') THEN 'PRUNED'
                                    ELSE 'FAIL' END
           OR (p.datetime_start IS NULL) <> (t.started_at IS NULL AND t.state <> 'cancelled')
           OR (p.datetime_complete IS NULL) <> (t.ended_at IS NULL)""",
    "I9 trial numbers are dense": """
        SELECT study_id FROM public.trials GROUP BY study_id
        HAVING min(number) <> 0 OR max(number) <> count(*) - 1 OR count(DISTINCT number) <> count(*)""",
    "I10 crashes stay within max_crashes, and a trial that reached it is over": """
        SELECT t.trial_id FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
        WHERE t.crashes > s.max_crashes OR t.crashes = s.max_crashes AND t.state NOT IN ('failed', 'cancelled')""",
    "I10 an attempt that ended says how, and what the trial became": """
        SELECT a.lease_id FROM trimtab.attempts a
        WHERE a.ended_at IS NOT NULL AND (a.outcome IS NULL OR a.became IS NULL)""",
    "I13 a worker never holds more leases than its capacity, one per slot": """
        SELECT w.worker_id FROM trimtab.trials t JOIN trimtab.workers w USING (worker_id)
        GROUP BY w.worker_id
        HAVING count(*) > w.capacity OR count(DISTINCT slot) <> count(*) OR max(slot) >= w.capacity""",
    "I14 crashes are attempts that ended by crashing": """
        SELECT t.trial_id FROM trimtab.trials t
        LEFT JOIN trimtab.attempts a ON (a.trial_id, a.kind, a.seed_index) = (t.trial_id, t.kind, t.seed_index) AND (
            a.outcome = 'expired' OR a.outcome = 'failed' AND (a.became IN ('queued', 'paused') OR a.error_kind = 'poison'
            OR a.became = 'cancelled'))
            -- A person who has a trial tried again, or a study taken up again, forgives its crashes so far.
            AND a.ended_at > coalesce((
                SELECT max(e.at) FROM trimtab.events e WHERE e.study_id = t.study_id
                AND (e.kind = 'trial_retried' AND e.trial_id = t.trial_id OR e.kind = 'study_reopened' AND t.kind <> 'trial')),
                '-infinity')
        GROUP BY t.trial_id, t.kind, t.seed_index HAVING t.crashes <> count(a)""",
    "I15 the hyperparameters are those that the trial started with, in Optuna's table too": """
        SELECT t.trial_id FROM trimtab.trials t JOIN trimtab.events e USING (trial_id)
        WHERE e.kind IN ('trial_started', 'trial_enqueued') AND (
            e.body -> 'hyperparameters' <> t.hyperparameters
            OR (SELECT count(*) FROM public.trial_params p WHERE p.trial_id = t.trial_id)
               <> (SELECT count(*) FROM jsonb_object_keys(t.hyperparameters)))""",
    "I15 the hyperparameters lie inside the space": """
        SELECT t.trial_id FROM trimtab.trials t JOIN trimtab.studies s USING (study_id),
            jsonb_each(s.document::jsonb -> 'space') d (key, dimension)
        WHERE NOT CASE dimension ->> 'kind'
            WHEN 'choices' THEN dimension -> 'choices' @> (t.hyperparameters -> d.key)
            ELSE (t.hyperparameters ->> d.key)::float8
                 BETWEEN (dimension ->> 'low')::float8 AND (dimension ->> 'high')::float8 END""",
    "I16 a checkpoint to carry on from belongs to this attempt or an earlier one": """
        SELECT trial_id FROM trimtab.trials WHERE checkpoint_fence > fence""",
    "I18 the final lease is of a trial that no completed one is better than, and so is a refit but for those before it": """
        SELECT f.trial_id FROM trimtab.trials f JOIN trimtab.studies s USING (study_id)
        JOIN trimtab.trials mine ON mine.trial_id = f.trial_id AND mine.kind = 'trial'
        WHERE f.kind <> 'trial' AND NOT f.past AND (
            SELECT count(*) FROM trimtab.events e
            WHERE e.study_id = f.study_id AND e.kind = 'trial_completed'
              AND CASE s.direction WHEN 'maximize' THEN (e.body ->> 'value')::float8 > mine.value
                                   ELSE (e.body ->> 'value')::float8 < mine.value END
            ) >= CASE f.kind WHEN 'final' THEN 1 ELSE (s.document::jsonb #>> '{finish,ensemble}')::int END""",
    "I23 a study has no more refits than its finish takes, and they begin when its search is over": """
        SELECT s.name FROM trimtab.studies s JOIN trimtab.trials r ON r.study_id = s.study_id AND r.kind = 'refit'
            AND NOT r.past
        GROUP BY s.study_id
        HAVING count(*) > (s.document::jsonb #>> '{finish,ensemble}')::int * (s.document::jsonb #>> '{finish,seeds}')::int
            OR max(r.seed_index) >= (s.document::jsonb #>> '{finish,seeds}')::int
            OR s.document::jsonb #>> '{finish,refit}' <> 'true' OR s.state IN ('active', 'paused', 'stopping')""",
    "I23 the final evaluation waits for the refits": """
        SELECT s.name FROM trimtab.studies s WHERE EXISTS (
            SELECT FROM trimtab.trials f WHERE f.study_id = s.study_id AND f.kind = 'final')
        AND EXISTS (
            SELECT FROM trimtab.trials r WHERE r.study_id = s.study_id AND r.kind = 'refit'
            AND r.state IN ('queued', 'running'))""",
    "I24 only completed trials have validation outputs": """
        SELECT o.trial_id FROM trimtab.validation_outputs o
        LEFT JOIN trimtab.trials t ON t.trial_id = o.trial_id AND t.kind = 'trial'
        WHERE t.state IS DISTINCT FROM 'completed'""",
    "I19 no row speaks of a study or trial that is gone": """
        SELECT e.id FROM trimtab.events e LEFT JOIN trimtab.trials t USING (trial_id)
        WHERE e.trial_id IS NOT NULL AND t.trial_id IS NULL
        UNION ALL SELECT p.study_id FROM public.studies p LEFT JOIN trimtab.studies s USING (study_id)
        WHERE s.study_id IS NULL
        UNION ALL SELECT e.id FROM trimtab.events e LEFT JOIN trimtab.studies s USING (study_id)
        WHERE s.study_id IS NULL""",
    "a study that has ended or been cancelled leaves nothing queued or paused": """
        SELECT t.trial_id FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
        WHERE s.state IN ('done', 'cancelled') AND t.state IN ('queued', 'paused')""",
    "only a paused study has paused trials, but for those that the search has paused while it goes on": """
        SELECT t.trial_id FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
        WHERE t.state = 'paused' AND s.state <> 'paused' AND NOT (t.paused_by_search AND s.state = 'active')""",
    "the search has paused only what is paused or about to be, and told why": """
        SELECT trial_id FROM trimtab.trials
        WHERE paused_by_search AND (state NOT IN ('running', 'paused') OR kind <> 'trial' OR reason IS NULL)""",
    "a study that is finalising waits for refits or its final lease, and has scores only when it is done": """
        SELECT s.name FROM trimtab.studies s
        LEFT JOIN trimtab.trials f ON f.study_id = s.study_id AND f.kind = 'final' AND NOT f.past
        WHERE s.state = 'finalising' AND f.state NOT IN ('queued', 'running')
           OR s.state = 'finalising' AND f.trial_id IS NULL AND NOT EXISTS (
               SELECT FROM trimtab.trials r WHERE r.study_id = s.study_id AND r.kind = 'refit'
               AND r.state IN ('queued', 'running'))
           OR s.state IN ('active', 'paused', 'stopping') AND f.trial_id IS NOT NULL
           OR s.state = 'done' AND (s.final IS NULL) = (s.problem IS NULL)""",
}

_ALL = Statement(
    " UNION ALL ".join(
        f"SELECT '{name.replace(chr(39), chr(39) * 2)}' AS broken, count(*) AS times FROM ({query}) q HAVING count(*) > 0"
        for name, query in INVARIANTS.items()
    )
)


def broken(database: Database) -> dict[str, int]:
    """The invariants that do not hold, and how many rows break each."""
    with database.statements() as connection:
        return {row[0]: row[1] for row in _ALL.rows(connection)}
