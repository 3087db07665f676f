"""The number of changes of a study's space is a column of its own."""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Let claims count the changes in the document again."""
    op.get_bind().exec_driver_sql("ALTER TABLE trimtab.studies DROP COLUMN space_edits")
