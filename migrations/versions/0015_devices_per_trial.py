"""On how many devices of a worker each trial of a study is trained, and how many a worker offers."""

from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Train each trial on one device; what a document says of more is read by nobody who would know."""
    op.get_bind().exec_driver_sql("""
        UPDATE trimtab.studies
        SET document = CAST(CAST(document AS jsonb) #- '{needs,devices_per_trial}' AS json)
        WHERE document #>> '{needs,devices_per_trial}' IS NOT NULL;
        ALTER TABLE trimtab.studies DROP COLUMN devices_per_trial;
        ALTER TABLE trimtab.workers DROP COLUMN devices
        """)
