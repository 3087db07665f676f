-- The wall time runs from a study's first lease, and after a pause from the next one.
DO $$
DECLARE
    old text;
BEGIN
    SELECT conname INTO STRICT old FROM pg_constraint
    WHERE conrelid = 'trimtab.studies'::regclass AND position('active_since' IN pg_get_constraintdef(oid)) > 0;
    EXECUTE 'ALTER TABLE trimtab.studies DROP CONSTRAINT ' || quote_ident(old);
END $$;
ALTER TABLE trimtab.studies ADD CONSTRAINT studies_clock CHECK (active_since IS NULL OR state = 'active');

-- What ended the search.
ALTER TABLE trimtab.studies ADD COLUMN ended_by text CHECK (ended_by IN
    ('trials', 'wall_time', 'exhausted', 'stopped', 'cancelled'));

-- A trial at the end of the wall time completes with what it has.
ALTER DOMAIN trimtab.verdict DROP CONSTRAINT verdict_check;
ALTER DOMAIN trimtab.verdict ADD CONSTRAINT verdict_check CHECK (VALUE IN
    ('continue', 'stop', 'finish', 'pause', 'cancel'));
