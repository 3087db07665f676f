CREATE SCHEMA trimtab;

-- The clock that decides. Tests move it per session: SET trimtab.skew = '90 s'.
CREATE FUNCTION trimtab.now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT clock_timestamp() + coalesce(nullif(current_setting('trimtab.skew', true), ''), '0 s')::interval
$$;

-- Words and numbers as domains: a domain is checked when its column is written, and by a check that is parsed once per
-- connection. A column's CHECK is parsed anew by every statement that writes the row, for a renewal as for all else.
CREATE DOMAIN trimtab.trial_state AS text CHECK (VALUE IN
    ('queued', 'running', 'paused', 'completed', 'pruned', 'failed', 'cancelled'));
CREATE DOMAIN trimtab.lease_kind AS text CHECK (VALUE IN ('trial', 'final'));
CREATE DOMAIN trimtab.verdict AS text CHECK (VALUE IN ('continue', 'stop', 'pause', 'cancel'));
CREATE DOMAIN trimtab.attempt_outcome AS text CHECK (VALUE IN
    ('completed', 'pruned', 'failed', 'cancelled', 'drained', 'paused', 'expired'));
CREATE DOMAIN trimtab.finite AS double precision CHECK (VALUE NOT IN ('NaN', 'Infinity', '-Infinity'));
CREATE DOMAIN trimtab.counted AS integer CHECK (VALUE >= 0);

CREATE TABLE trimtab.studies (
    study_id       integer PRIMARY KEY REFERENCES public.studies (study_id),
    name           text NOT NULL UNIQUE,
    state          text NOT NULL DEFAULT 'active' CHECK (state IN
                       ('active', 'paused', 'stopping', 'finalising', 'done', 'cancelled', 'deleting')),
    document       json NOT NULL,                        -- json: keeps the order of its keys
    objective      text NOT NULL,                        -- the metric that trials are compared by
    direction      text NOT NULL CHECK (direction IN ('maximize', 'minimize')),
    priority       integer NOT NULL,
    trials_limit   integer NOT NULL CHECK (trials_limit > 0),
    trials_created integer NOT NULL DEFAULT 0 CHECK (trials_created BETWEEN 0 AND trials_limit),
    exhausted      boolean NOT NULL DEFAULT false,       -- the sampler has no further point
    wall_time_s    double precision CHECK (wall_time_s > 0),
    active_s       double precision NOT NULL DEFAULT 0,  -- seconds spent active before active_since
    active_since   timestamptz,
    max_crashes    integer NOT NULL CHECK (max_crashes > 0),
    lease_ttl      interval NOT NULL CHECK (lease_ttl > '0 s'),
    created_at     timestamptz NOT NULL DEFAULT trimtab.now(),
    final          jsonb,                                -- the final lease's scores
    problem        text,                                 -- why a study that is done has no model
    CHECK ((state = 'active') = (active_since IS NOT NULL)),
    CHECK (final IS NULL OR state IN ('done', 'deleting'))
);

CREATE TABLE trimtab.workers (
    worker_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    label         text NOT NULL,
    device        text NOT NULL,
    memory_bytes  bigint CHECK (memory_bytes >= 0),
    capacity      integer NOT NULL CHECK (capacity > 0),
    state         text NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'draining', 'gone', 'quarantined')),
    registered_at timestamptz NOT NULL DEFAULT trimtab.now(),
    last_seen     timestamptz NOT NULL DEFAULT trimtab.now()
);

CREATE TABLE trimtab.artifacts (
    sha256     text PRIMARY KEY CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    bytes      bigint NOT NULL CHECK (bytes >= 0),
    named_at   timestamptz NOT NULL DEFAULT trimtab.now()  -- uploaded or told of last: what nothing needs is collected later
);

-- What a worker can hold a lease on: an Optuna trial (kind trial), or the final evaluation of its study's winner.
CREATE TABLE trimtab.trials (
    trial_id          integer NOT NULL REFERENCES public.trials (trial_id),
    kind              trimtab.lease_kind NOT NULL,
    study_id          integer NOT NULL REFERENCES trimtab.studies (study_id),
    number            integer NOT NULL,
    state             trimtab.trial_state NOT NULL,
    hyperparameters   jsonb NOT NULL,
    fence             bigint NOT NULL DEFAULT 0,         -- counts the attempts
    crashes           integer NOT NULL DEFAULT 0,
    not_before        timestamptz NOT NULL DEFAULT trimtab.now(),
    lease_id          uuid UNIQUE,
    worker_id         uuid REFERENCES trimtab.workers (worker_id),
    slot              trimtab.counted,
    lease_until       timestamptz,
    reported          integer NOT NULL DEFAULT 0,        -- how many reports it has, of all attempts
    checkpoint        jsonb,                             -- {step, sha256, bytes}: where to carry on
    checkpoint_fence  bigint,
    previous_checkpoint jsonb,                           -- {step, sha256, bytes}: where to, if that one is harmed
    best_checkpoint   jsonb,                             -- {step, sha256, bytes}: of the best epoch
    value             trimtab.finite,
    error_kind        text,
    error_message     text,
    curve             jsonb,                             -- [[step, value], ...], written when the trial leaves running
    record            jsonb,                             -- what the worker found when it began: data, splits, weights
    created_at        timestamptz NOT NULL DEFAULT trimtab.now(),
    started_at        timestamptz,
    ended_at          timestamptz,
    PRIMARY KEY (trial_id, kind),
    CHECK (num_nonnulls(lease_id, worker_id, slot, lease_until) = CASE state WHEN 'running' THEN 4 ELSE 0 END),
    CHECK ((state = 'completed') = (value IS NOT NULL)),
    CHECK ((state IN ('queued', 'running', 'paused')) = (ended_at IS NULL)),
    CHECK ((state = 'failed') <= (error_kind IS NOT NULL)),
    CHECK (kind = 'trial' OR state NOT IN ('paused', 'pruned'))
) WITH (fillfactor = 70);  -- a renewal changes no indexed column and stays on its page
CREATE UNIQUE INDEX one_lease_per_slot ON trimtab.trials (worker_id, slot) WHERE state = 'running';
CREATE UNIQUE INDEX one_final_per_study ON trimtab.trials (study_id) WHERE kind = 'final';
CREATE INDEX trials_queued ON trimtab.trials (study_id, not_before) WHERE state = 'queued';
CREATE INDEX trials_unfinished ON trimtab.trials (study_id, state) WHERE state IN ('queued', 'running', 'paused');
CREATE INDEX trials_of_study ON trimtab.trials (study_id, number);
CREATE INDEX trials_completed ON trimtab.trials (study_id, value DESC, number) WHERE state = 'completed' AND kind = 'trial';

-- One holder's go. Kept for ever: answers a repeated claim or outcome after the lease is gone.
CREATE TABLE trimtab.attempts (
    lease_id       uuid PRIMARY KEY,
    trial_id       integer NOT NULL,
    kind           trimtab.lease_kind NOT NULL,
    fence          bigint NOT NULL,
    worker_id      uuid NOT NULL REFERENCES trimtab.workers (worker_id),
    claim_id       uuid NOT NULL,
    ordinal        integer NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT trimtab.now(),
    ended_at       timestamptz,
    outcome        trimtab.attempt_outcome,
    became         text,                                 -- the trial's state from then on
    outcome_sha256 text,                                 -- of the message that settled it
    error_kind     text,
    UNIQUE (trial_id, kind, fence),
    UNIQUE (worker_id, claim_id, ordinal),
    FOREIGN KEY (trial_id, kind) REFERENCES trimtab.trials (trial_id, kind),
    CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CHECK ((ended_at IS NULL) = (became IS NULL))
);

CREATE TABLE trimtab.reports (
    trial_id integer NOT NULL,
    fence    bigint NOT NULL,
    step     trimtab.counted NOT NULL,
    value    trimtab.finite,                             -- NULL: was not finite
    verdict  trimtab.verdict NOT NULL,
    metrics  jsonb NOT NULL DEFAULT '{}',
    at       timestamptz NOT NULL DEFAULT trimtab.now(),
    PRIMARY KEY (trial_id, fence, step)
    -- no foreign key: the statement that inserts has just updated the trial under its lease
);

-- What happened, in the transaction in which it happened. (xid, id) below the snapshot's xmin is commit order.
CREATE TABLE trimtab.events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at           timestamptz NOT NULL DEFAULT trimtab.now(),
    study_id     integer NOT NULL,  -- no foreign key: it would lock the study's row for every report
    trial_id     integer,
    trial_number integer,
    fence        bigint,
    kind         text NOT NULL,
    body         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_of_study ON trimtab.events (study_id, xid, id);

-- What trainings took of their devices' memory. Outlives its studies.
CREATE TABLE trimtab.memory_findings (
    device           text NOT NULL,
    backbone         text NOT NULL,
    image_size       integer NOT NULL,
    precision        text NOT NULL,
    frozen_stages    integer NOT NULL,
    batch_size       integer NOT NULL,
    memory_bytes     bigint,
    micro_batch_size integer,                            -- NULL: the whole batch fitted
    peak_bytes       bigint,
    found_at         timestamptz NOT NULL DEFAULT trimtab.now(),
    PRIMARY KEY (device, backbone, image_size, precision, frozen_stages, batch_size)
);

CREATE TABLE trimtab.idempotency (
    key            text PRIMARY KEY,
    request_sha256 text NOT NULL,
    status         integer NOT NULL,
    body           json NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT trimtab.now()
);

-- One row, locked by the replica that sweeps.
CREATE TABLE trimtab.sweeper (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    swept_at      timestamptz NOT NULL DEFAULT trimtab.now(),  -- by any replica: an older time than usual was an outage
    held_since    timestamptz,                                 -- when a mass expiry was first held back
    reconciled_at timestamptz NOT NULL DEFAULT trimtab.now(),  -- when Optuna's tables were last compared with ours
    collected_at  timestamptz NOT NULL DEFAULT trimtab.now()   -- when artifacts that nothing needs were last looked for
);
INSERT INTO trimtab.sweeper DEFAULT VALUES;

-- Optuna keeps neither promise itself; both hold for its own writes too.
ALTER TABLE public.trial_values ADD CONSTRAINT trimtab_finite CHECK (value_type = 'FINITE' AND value <> 'NaN');
CREATE UNIQUE INDEX trimtab_trial_number ON public.trials (study_id, number);

-- Wakes waiting workers. Only what makes new work rings: a NOTIFY takes a lock that commits share.
CREATE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'trial_queued', 'final_queued', 'crash_refunded') THEN
        PERFORM pg_notify('trimtab', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ring AFTER INSERT ON trimtab.events FOR EACH ROW
    WHEN (NEW.kind <> 'reported')  -- a short expression: every insert parses it
    EXECUTE FUNCTION trimtab.ring();
