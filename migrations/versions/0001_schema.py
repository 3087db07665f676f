"""The first schema: every state, both lease kinds."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Drop our schema and our two guards; Optuna's tables and their rows stay."""
    op.get_bind().exec_driver_sql(
        "DROP INDEX public.trimtab_trial_number;"
        "ALTER TABLE public.trial_values DROP CONSTRAINT trimtab_finite;"
        "DROP SCHEMA trimtab CASCADE"
    )
