"""A study's data, its probe, and the workers that cannot serve it."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget what studies' data are; whoever was set aside gave the trial back."""
    op.get_bind().exec_driver_sql("""
        DROP TABLE trimtab.set_aside;
        DROP INDEX trimtab.one_probe_per_study;
        ALTER TABLE trimtab.trials DROP COLUMN probe;
        ALTER TABLE trimtab.studies DROP COLUMN data;
        UPDATE trimtab.attempts SET outcome = 'drained' WHERE outcome = 'set_aside';
        ALTER DOMAIN trimtab.attempt_outcome DROP CONSTRAINT attempt_outcome_check;
        ALTER DOMAIN trimtab.attempt_outcome ADD CONSTRAINT attempt_outcome_check CHECK (VALUE IN
            ('completed', 'pruned', 'failed', 'cancelled', 'drained', 'paused', 'expired'));
        CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'trial_queued', 'final_queued', 'crash_refunded') THEN
                PERFORM pg_notify('trimtab', '');
            END IF;
            RETURN NULL;
        END $$
        """)
