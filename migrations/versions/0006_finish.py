"""Refits of a study's best trials, and what trials answered to the validation split."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget the refits; a study that was at them goes on with its final evaluation when it is next looked at."""
    op.get_bind().exec_driver_sql("""
        DELETE FROM trimtab.attempts WHERE kind = 'refit';
        DELETE FROM trimtab.events WHERE starts_with(kind, 'refit');
        DELETE FROM trimtab.trials WHERE kind = 'refit';
        DROP TABLE trimtab.validation_outputs;
        ALTER DOMAIN trimtab.lease_kind DROP CONSTRAINT lease_kind_check;
        ALTER DOMAIN trimtab.lease_kind ADD CONSTRAINT lease_kind_check CHECK (VALUE IN ('trial', 'final'));
        CREATE OR REPLACE FUNCTION trimtab.ring() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.kind IN ('study_created', 'study_resumed', 'study_finalising', 'probe_passed', 'trial_queued', 'final_queued',
                            'crash_refunded') THEN
                PERFORM pg_notify('trimtab', '');
            END IF;
            RETURN NULL;
        END $$
        """)
