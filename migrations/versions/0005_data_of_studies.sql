-- What a study's trials are trained on: the record that its first trial began with. Nobody else's data may differ.
ALTER TABLE trimtab.studies ADD COLUMN data jsonb;
UPDATE trimtab.studies s SET data = (
    SELECT jsonb_build_object('data_sha256', t.record -> 'data_sha256', 'split_sha256', t.record -> 'split_sha256',
                              'pictures', t.record -> 'pictures', 'classes', t.record -> 'classes',
                              'class_counts', t.record -> 'class_counts')
    FROM trimtab.trials t WHERE t.study_id = s.study_id AND t.kind = 'trial' AND t.record IS NOT NULL
    ORDER BY t.number LIMIT 1);

-- A study whose data is not known runs one lease at a time, its probe.
ALTER TABLE trimtab.trials ADD COLUMN probe boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX one_probe_per_study ON trimtab.trials (study_id) WHERE probe AND state = 'running';

-- Workers that cannot serve a study: its data or weights are not there, or are others.
CREATE TABLE trimtab.set_aside (
    study_id  integer NOT NULL REFERENCES trimtab.studies (study_id),
    worker_id uuid NOT NULL REFERENCES trimtab.workers (worker_id),
    problem   text NOT NULL,
    at        timestamptz NOT NULL DEFAULT trimtab.now(),
    PRIMARY KEY (study_id, worker_id)
);
CREATE INDEX set_aside_of_worker ON trimtab.set_aside (worker_id);

-- The attempt of a worker that was set aside for it: no crash.
ALTER DOMAIN trimtab.attempt_outcome DROP CONSTRAINT attempt_outcome_check;
ALTER DOMAIN trimtab.attempt_outcome ADD CONSTRAINT attempt_outcome_check CHECK (VALUE IN
    ('completed', 'pruned', 'failed', 'cancelled', 'drained', 'paused', 'expired', 'set_aside'));

CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'final_queued',
                    'crash_refunded') THEN
        PERFORM pg_notify('trimtab', '');
    END IF;
    RETURN NULL;
END $$;
