-- What a study asks of a model beside its objective: bounds, and a second objective.
ALTER TABLE trimtab.studies ADD COLUMN constraints jsonb;  -- [{metric, max, min}, ...]; NULL: there are none
ALTER TABLE trimtab.studies ADD COLUMN second jsonb;       -- {metric, direction}; NULL: the objective stands alone

ALTER TABLE trimtab.trials ADD COLUMN measured jsonb;      -- {metric: value, ...} of the kept epoch, and costs
ALTER TABLE trimtab.trials ADD COLUMN violations jsonb;    -- [share of the bound, ...]: above 0, the constraint is violated
ALTER TABLE trimtab.trials ADD COLUMN feasible boolean NOT NULL DEFAULT true;
ALTER TABLE trimtab.trials ADD COLUMN second_value trimtab.finite;

-- By how much of its bound each constraint is violated; what was not measured violates its constraint as a whole.
CREATE FUNCTION trimtab.violations(constraints jsonb, measured jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_agg(coalesce(greatest(
               (v.found - b.upper) / coalesce(nullif(abs(b.upper), 0), 1),
               (b.lower - v.found) / coalesce(nullif(abs(b.lower), 0), 1)), 1) ORDER BY c.place)
    FROM jsonb_array_elements(constraints) WITH ORDINALITY c (bounds, place),
         LATERAL (SELECT CAST(c.bounds ->> 'max' AS float8) AS upper, CAST(c.bounds ->> 'min' AS float8) AS lower) b,
         LATERAL (SELECT CAST(measured ->> (c.bounds ->> 'metric') AS float8) AS told) m,
         LATERAL (SELECT CASE WHEN m.told IS NOT NULL THEN least(greatest(m.told, -1e100), 1e100) END AS found) v
$$;

-- A trial that violates a constraint is no progress, and reaches no target.
CREATE OR REPLACE FUNCTION trimtab.no_progress(study integer) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(CAST(s.limits ->> 'no_progress_trials' AS int) <= (
        SELECT count(*) FROM trimtab.trials t
        WHERE t.study_id = study AND t.kind = 'trial' AND t.state IN ('completed', 'pruned') AND t.ended_at > (
            SELECT b.ended_at FROM trimtab.trials b
            WHERE b.study_id = study AND b.kind = 'trial' AND b.state = 'completed' AND b.feasible
            ORDER BY CASE s.direction WHEN 'maximize' THEN -b.value ELSE b.value END, b.ended_at LIMIT 1)), false)
    FROM trimtab.studies s WHERE s.study_id = study
$$;
CREATE OR REPLACE FUNCTION trimtab.reached_limit(study integer) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE
        WHEN s.limits ? 'target_value' AND EXISTS (
            SELECT FROM trimtab.trials t WHERE t.study_id = study AND t.kind = 'trial' AND t.state = 'completed' AND t.feasible
            AND CASE s.direction WHEN 'maximize' THEN t.value >= CAST(s.limits ->> 'target_value' AS float8)
                                 ELSE t.value <= CAST(s.limits ->> 'target_value' AS float8) END) THEN 'target_value'
        WHEN s.limits ? 'epochs' AND CAST(s.limits ->> 'epochs' AS int) <= (
            SELECT sum(t.reported) FROM trimtab.trials t WHERE t.study_id = study AND t.kind = 'trial') THEN 'epochs'
        WHEN s.limits ? 'device_seconds'
            AND CAST(s.limits ->> 'device_seconds' AS float8) <= trimtab.device_seconds(study) THEN 'device_seconds' END
    FROM trimtab.studies s WHERE s.study_id = study
$$;
