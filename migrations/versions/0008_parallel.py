"""How many trials of a study may be leased at a time."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Let each study have as many trials at a time as there are workers for."""
    op.get_bind().exec_driver_sql("ALTER TABLE trimtab.studies DROP COLUMN parallel")
