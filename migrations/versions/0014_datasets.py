"""Data sets that people have uploaded."""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget the names; studies that began with such data find them no more."""
    op.drop_table("datasets", schema="trimtab")
