"""A refit for each of several seeds is a row of its own."""

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the DDL that ARCHITECTURE.md shows."""
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Forget refits with further seeds; a study that was at them goes on when it is next looked at."""
    op.get_bind().exec_driver_sql("""
        DELETE FROM trimtab.attempts WHERE seed_index > 0;
        DELETE FROM trimtab.events WHERE starts_with(kind, 'refit') AND body ? 'seed_index';
        DELETE FROM trimtab.trials WHERE seed_index > 0;
        ALTER TABLE trimtab.attempts DROP CONSTRAINT attempts_trial_id_kind_seed_index_fkey,
            DROP CONSTRAINT attempts_trial_id_kind_seed_index_fence_key;
        ALTER TABLE trimtab.trials DROP CONSTRAINT trials_pkey;
        ALTER TABLE trimtab.trials DROP COLUMN seed_index;
        ALTER TABLE trimtab.attempts DROP COLUMN seed_index;
        ALTER TABLE trimtab.trials ADD PRIMARY KEY (trial_id, kind);
        ALTER TABLE trimtab.attempts ADD UNIQUE (trial_id, kind, fence);
        ALTER TABLE trimtab.attempts ADD FOREIGN KEY (trial_id, kind) REFERENCES trimtab.trials (trial_id, kind)
        """)
