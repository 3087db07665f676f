"""Findings about memory speak of a sample's length, whatever its modality."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Speak of pictures again."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE trimtab.memory_findings RENAME COLUMN input_size TO image_size"
    )
