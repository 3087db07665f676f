-- A trial that the search pauses while others promise more, and takes up again. Only of rows of kind trial.
ALTER TABLE trimtab.trials ADD COLUMN runs_until trimtab.counted;                      -- epochs at which it is decided on again
ALTER TABLE trimtab.trials ADD COLUMN paused_by_search boolean NOT NULL DEFAULT false; -- decided while it runs, and kept while paused
ALTER TABLE trimtab.trials ADD COLUMN reason jsonb;                                    -- of the last decision
CREATE INDEX trials_paused_by_search ON trimtab.trials (study_id) WHERE state = 'paused' AND paused_by_search;

-- What a person changes of a study that has begun: a trial is asked to end, a study that is done gets more budget.
ALTER TABLE trimtab.trials ADD COLUMN stop_asked boolean NOT NULL DEFAULT false;       -- while it runs: the next verdict says so
ALTER TABLE trimtab.trials ADD COLUMN past boolean NOT NULL DEFAULT false;             -- a refit or final lease of an earlier end
DROP INDEX trimtab.one_final_per_study;
CREATE UNIQUE INDEX one_final_per_study ON trimtab.trials (study_id) WHERE kind = 'final' AND NOT past;
ALTER TABLE trimtab.studies ADD COLUMN earlier_finals jsonb NOT NULL DEFAULT '[]';     -- the scores of its earlier ends

-- Limits of a search beside its trials and its wall time: {device_seconds, epochs, target_value, no_progress_trials}.
ALTER TABLE trimtab.studies ADD COLUMN limits jsonb;  -- NULL: there are none, and nothing below is asked
ALTER TABLE trimtab.studies DROP CONSTRAINT studies_ended_by_check;
ALTER TABLE trimtab.studies ADD CONSTRAINT studies_ended_by_check CHECK (ended_by IN
    ('trials', 'wall_time', 'exhausted', 'stopped', 'cancelled', 'device_seconds', 'epochs', 'target_value', 'no_progress'));

-- Seconds in which workers had trials of the study; what one worker trains at a time counts once.
CREATE FUNCTION trimtab.device_seconds(study integer) RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(sum(extract(epoch FROM upper(span) - lower(span))), 0)
    FROM (SELECT range_agg(tstzrange(a.started_at, greatest(a.started_at, coalesce(a.ended_at, trimtab.now())))) AS spans
          FROM trimtab.attempts a JOIN trimtab.trials t USING (trial_id, kind)
          WHERE t.study_id = study AND a.kind = 'trial' GROUP BY a.worker_id) w, unnest(w.spans) AS span
$$;

-- How many epochs may still begin: each running trial is at one that nobody has reported yet. NULL: as many as there are.
CREATE FUNCTION trimtab.epochs_left(study integer) RETURNS integer LANGUAGE sql VOLATILE AS $$
    SELECT CAST(s.limits ->> 'epochs' AS int) - (
        SELECT CAST(coalesce(sum(t.reported), 0) + count(*) FILTER (WHERE t.state = 'running') AS int)
        FROM trimtab.trials t WHERE t.study_id = study AND t.kind = 'trial')
    FROM trimtab.studies s WHERE s.study_id = study
$$;

-- Whether so many trials in a row have ended without a better value than the best one before them.
CREATE FUNCTION trimtab.no_progress(study integer) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(CAST(s.limits ->> 'no_progress_trials' AS int) <= (
        SELECT count(*) FROM trimtab.trials t
        WHERE t.study_id = study AND t.kind = 'trial' AND t.state IN ('completed', 'pruned') AND t.ended_at > (
            SELECT b.ended_at FROM trimtab.trials b
            WHERE b.study_id = study AND b.kind = 'trial' AND b.state = 'completed'
            ORDER BY CASE s.direction WHEN 'maximize' THEN -b.value ELSE b.value END, b.ended_at LIMIT 1)), false)
    FROM trimtab.studies s WHERE s.study_id = study
$$;

-- The limit that ends the search at once, whatever runs; NULL: none is reached.
CREATE FUNCTION trimtab.reached_limit(study integer) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE
        WHEN s.limits ? 'target_value' AND EXISTS (
            SELECT FROM trimtab.trials t WHERE t.study_id = study AND t.kind = 'trial' AND t.state = 'completed'
            AND CASE s.direction WHEN 'maximize' THEN t.value >= CAST(s.limits ->> 'target_value' AS float8)
                                 ELSE t.value <= CAST(s.limits ->> 'target_value' AS float8) END) THEN 'target_value'
        WHEN s.limits ? 'epochs' AND CAST(s.limits ->> 'epochs' AS int) <= (
            SELECT sum(t.reported) FROM trimtab.trials t WHERE t.study_id = study AND t.kind = 'trial') THEN 'epochs'
        WHEN s.limits ? 'device_seconds'
            AND CAST(s.limits ->> 'device_seconds' AS float8) <= trimtab.device_seconds(study) THEN 'device_seconds' END
    FROM trimtab.studies s WHERE s.study_id = study
$$;

CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'trial_paused',
                    'refit_queued', 'final_queued', 'crash_refunded', 'study_edited', 'study_reopened', 'trial_enqueued',
                    'trial_retried') THEN
        PERFORM pg_notify('trimtab', '');
    END IF;
    RETURN NULL;
END $$;
