"""The wall time from the first lease on, what ended a study, and the verdict `finish`."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Put the first schema's rules back; studies that nobody has begun are on the clock again."""
    op.get_bind().exec_driver_sql("""
        UPDATE trimtab.studies SET active_since = trimtab.now() WHERE state = 'active' AND active_since IS NULL;
        ALTER TABLE trimtab.studies DROP CONSTRAINT studies_clock, DROP COLUMN ended_by,
            ADD CHECK ((state = 'active') = (active_since IS NOT NULL));
        UPDATE trimtab.reports SET verdict = 'stop' WHERE verdict = 'finish';
        ALTER DOMAIN trimtab.verdict DROP CONSTRAINT verdict_check;
        ALTER DOMAIN trimtab.verdict ADD CONSTRAINT verdict_check CHECK (VALUE IN ('continue', 'stop', 'pause', 'cancel'))
        """)
