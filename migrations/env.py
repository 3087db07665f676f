"""Alembic's environment: our schema's versions live in `public.trimtab_version`, beside Optuna's own."""

from alembic import context
from sqlalchemy import Connection


def migrate(connection: Connection) -> None:
    """Run the migrations on the connection (and in the transaction) that the caller hands over."""
    context.configure(
        connection=connection,
        version_table="trimtab_version",
        version_table_schema="public",
    )
    context.run_migrations()


migrate(context.config.attributes["connection"])
