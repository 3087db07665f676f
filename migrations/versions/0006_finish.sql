-- A refit: the training of one of a study's best trials on train and validation together. A row of trimtab.trials too.
ALTER DOMAIN trimtab.lease_kind DROP CONSTRAINT lease_kind_check;
ALTER DOMAIN trimtab.lease_kind ADD CONSTRAINT lease_kind_check CHECK (VALUE IN ('trial', 'refit', 'final'));

-- What a completed trial answered to the rows of the validation split.
CREATE TABLE trimtab.validation_outputs (
    trial_id integer PRIMARY KEY,
    outputs  json NOT NULL
    -- no foreign key: the statement that inserts has just ended the trial under its lease
);

CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'refit_queued',
                    'final_queued', 'crash_refunded') THEN
        PERFORM pg_notify('trimtab', '');
    END IF;
    RETURN NULL;
END $$;
