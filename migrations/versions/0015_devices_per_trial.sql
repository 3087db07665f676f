-- On how many devices of a worker each trial of a study is trained, and how many a worker offers.
ALTER TABLE trimtab.studies ADD COLUMN devices_per_trial integer NOT NULL
    GENERATED ALWAYS AS (coalesce(CAST(document #>> '{needs,devices_per_trial}' AS integer), 1)) STORED;
ALTER TABLE trimtab.workers ADD COLUMN devices integer NOT NULL DEFAULT 1 CHECK (devices > 0);
