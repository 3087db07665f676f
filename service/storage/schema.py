"""Bring an empty or older database to the schema that this version writes."""

import logging
import warnings
from pathlib import Path

import optuna
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.storage import foreign
from service.storage.engine import Database
from service.storage.foreign import DatabaseRefused

ADVISORY_LOCK = 7_461_726
MIGRATES_WITHIN_S = 600.0

_PATIENTLY = """
    SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"""


class SchemaTooNew(DatabaseRefused):
    """The database was migrated by a newer trimtab; start that version, or restore an older backup."""


def migrate(database: Database) -> None:
    """Create or upgrade Optuna's tables and ours, one process at a time.

    Optuna creates its tables without a lock of its own: three servers on an empty database failed in 3 of 18 starts.

    Raises:
        SchemaTooNew: the database is ahead of this version.
        DatabaseRefused: its tables are another Optuna's or another tool's; nothing was created.
        Unavailable: the database does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with database.transaction(within_s=MIGRATES_WITHIN_S) as connection:
        # The lock is held by this transaction, while Optuna works on connections of its own.
        connection.execute(text(_PATIENTLY))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        current = _known_revision(connection)
        foreign.refuse_other_tables(connection)
        _create_optuna_tables(database)
        if current is None:
            with foreign.studies_set_aside(connection):
                _upgrade(connection)
        else:
            _upgrade(connection)


def version(database: Database) -> str:
    """The migration that the database has now."""
    with database.statements() as connection:
        return connection.execute(
            text("SELECT version_num FROM public.trimtab_version")
        ).scalar_one()


def refuse_other(database: Database, known: str) -> None:
    """See that no newer trimtab has migrated the database under us.

    Raises:
        SchemaTooNew: one has.
    """
    if (now := version(database)) != known:
        raise SchemaTooNew(f"{SchemaTooNew.__doc__} (its schema is {now})")


def _create_optuna_tables(database: Database) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = optuna.storages.RDBStorage(
            database.engine.url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": {"options": "-csearch_path=public"}},
        )
    storage.engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    return config


def _known_revision(connection: Connection) -> str | None:
    """The migration that the database has now, None before the first; refuses one that this version does not know."""
    context = MigrationContext.configure(
        connection, opts={"version_table": "trimtab_version", "version_table_schema": "public"}
    )
    known = {
        script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    }
    if (current := context.get_current_revision()) is not None and current not in known:
        raise SchemaTooNew(f"{SchemaTooNew.__doc__} (its schema is {current})")
    return current


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
