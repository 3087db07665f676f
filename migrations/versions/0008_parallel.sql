-- At most so many trials of a study are leased at a time. NULL: as many as there are workers for.
ALTER TABLE trimtab.studies ADD COLUMN parallel integer CHECK (parallel > 0);
