"""What a study needs of a worker's device, and what a worker's device has."""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget what studies need: their documents are read by nobody who would know."""
    op.get_bind().exec_driver_sql("""
        UPDATE trimtab.studies SET document = CAST(CAST(document AS jsonb) - 'needs' AS json)
        WHERE document #>> '{needs,gpu_memory_gb}' IS NOT NULL;
        ALTER TABLE trimtab.studies DROP COLUMN gpu_memory_gb;
        ALTER TABLE trimtab.workers DROP COLUMN gpu_memory_gb
        """)
