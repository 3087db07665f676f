-- A refit of each of several seeds: rows of their own, counted from 0, the trial's own seed. All else has 0.
ALTER TABLE trimtab.trials ADD COLUMN seed_index trimtab.counted NOT NULL DEFAULT 0;
ALTER TABLE trimtab.attempts ADD COLUMN seed_index trimtab.counted NOT NULL DEFAULT 0;
ALTER TABLE trimtab.attempts DROP CONSTRAINT attempts_trial_id_kind_fkey;
ALTER TABLE trimtab.attempts DROP CONSTRAINT attempts_trial_id_kind_fence_key;
ALTER TABLE trimtab.trials DROP CONSTRAINT trials_pkey;
ALTER TABLE trimtab.trials ADD PRIMARY KEY (trial_id, kind, seed_index);
ALTER TABLE trimtab.attempts ADD UNIQUE (trial_id, kind, seed_index, fence);
ALTER TABLE trimtab.attempts ADD FOREIGN KEY (trial_id, kind, seed_index)
    REFERENCES trimtab.trials (trial_id, kind, seed_index);
