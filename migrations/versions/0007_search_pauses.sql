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

CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'trial_paused',
                    'refit_queued', 'final_queued', 'crash_refunded', 'study_edited', 'study_reopened', 'trial_enqueued',
                    'trial_retried') THEN
        PERFORM pg_notify('trimtab', '');
    END IF;
    RETURN NULL;
END $$;
