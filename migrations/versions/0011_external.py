"""External studies, and the loops of a person's own that train their trials."""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Cancel what no worker of such a release can train; loops are workers that have gone."""
    op.get_bind().exec_driver_sql("""
        UPDATE trimtab.studies SET state = 'cancelled', ended_by = 'cancelled', active_since = NULL
        WHERE external AND state NOT IN ('done', 'cancelled', 'deleting');
        UPDATE trimtab.workers SET state = 'gone' WHERE study_id IS NOT NULL;
        ALTER TABLE trimtab.studies DROP COLUMN external;
        ALTER TABLE trimtab.workers DROP COLUMN study_id
        """)
