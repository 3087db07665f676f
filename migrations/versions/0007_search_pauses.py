"""Trials that the search pauses and takes up again, and why; what a person changes of a study that has begun; limits."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Queue what the search had paused: a release without schedulers trains it to its end.

    What a study's earlier ends left is deleted: such a release knows of one end.
    """
    op.get_bind().exec_driver_sql("""
        UPDATE trimtab.trials SET state = 'queued' WHERE state = 'paused' AND paused_by_search;
        DROP INDEX trimtab.trials_paused_by_search;
        ALTER TABLE trimtab.trials DROP COLUMN runs_until, DROP COLUMN paused_by_search, DROP COLUMN reason;
        DELETE FROM trimtab.attempts a USING trimtab.trials t WHERE t.trial_id = a.trial_id AND t.kind = a.kind AND t.past;
        DELETE FROM trimtab.trials WHERE past;
        DROP INDEX trimtab.one_final_per_study;
        ALTER TABLE trimtab.trials DROP COLUMN stop_asked, DROP COLUMN past;
        CREATE UNIQUE INDEX one_final_per_study ON trimtab.trials (study_id) WHERE kind = 'final';
        ALTER TABLE trimtab.studies DROP COLUMN earlier_finals;
        DROP FUNCTION trimtab.reached_limit, trimtab.no_progress, trimtab.epochs_left, trimtab.device_seconds;
        UPDATE trimtab.studies SET ended_by = 'stopped'
        WHERE ended_by IN ('device_seconds', 'epochs', 'target_value', 'no_progress');
        ALTER TABLE trimtab.studies DROP CONSTRAINT studies_ended_by_check;
        ALTER TABLE trimtab.studies ADD CONSTRAINT studies_ended_by_check CHECK (ended_by IN
            ('trials', 'wall_time', 'exhausted', 'stopped', 'cancelled'));
        ALTER TABLE trimtab.studies DROP COLUMN limits;
        CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'refit_queued',
                            'final_queued', 'crash_refunded') THEN
                PERFORM pg_notify('trimtab', '');
            END IF;
            RETURN NULL;
        END $$
        """)
