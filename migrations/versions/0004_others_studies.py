"""Rules that bind our studies' rows in Optuna's tables, and nobody else's."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Bind all rows again, those that are written from now on."""
    op.get_bind().exec_driver_sql("""
        DROP TRIGGER trimtab_trial_number ON public.trials;
        DROP TRIGGER trimtab_finite ON public.trial_values;
        DROP FUNCTION trimtab.refuse_second_number, trimtab.refuse_infinite;
        DROP INDEX public.trimtab_trials_by_number;
        CREATE UNIQUE INDEX trimtab_trial_number ON public.trials (study_id, number);
        ALTER TABLE public.trial_values ADD CONSTRAINT trimtab_finite
            CHECK (value_type = 'FINITE' AND value <> 'NaN') NOT VALID
        """)
