"""Alembic migrations of the `trimtab` schema, beside Optuna's own."""
