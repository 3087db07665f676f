-- A study whose trials loops of a person's own train: each claim asks, and none needs to open the document for it.
ALTER TABLE trimtab.studies ADD COLUMN external boolean NOT NULL
    GENERATED ALWAYS AS (coalesce(document #>> '{task,kind}' = 'external', false)) STORED;

-- The external study whose trials a loop takes, and it takes no others; NULL: one of trimtab's workers.
-- No foreign key: a worker outlives the study.
ALTER TABLE trimtab.workers ADD COLUMN study_id integer;
