"""Constraints, a second objective, and what was measured of a model beside the first one."""

import re
from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget constraints and second objectives: to such a release every completed trial may win."""
    before = (Path(__file__).parent / "0007_search_pauses.sql").read_text()
    for name in ("no_progress", "reached_limit"):
        function = re.search(
            rf"CREATE (FUNCTION trimtab\.{name}\(.*?\n\$\$;)", before, re.DOTALL
        )
        if function is None:
            raise LookupError(name)
        op.get_bind().exec_driver_sql(f"CREATE OR REPLACE {function[1]}")
    op.get_bind().exec_driver_sql("""
        DROP FUNCTION trimtab.violations;
        DELETE FROM public.trial_values v USING trimtab.trials t
        WHERE t.trial_id = v.trial_id AND v.objective = 1;
        DELETE FROM public.study_directions d USING trimtab.studies s
        WHERE s.study_id = d.study_id AND d.objective = 1;
        ALTER TABLE trimtab.trials DROP COLUMN measured, DROP COLUMN violations, DROP COLUMN feasible,
            DROP COLUMN second_value;
        ALTER TABLE trimtab.studies DROP COLUMN constraints, DROP COLUMN second
        """)
