"""What a database holds that is not ours: tables that are not the Optuna's we write to, and rows of others' studies."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from alembic.script import ScriptDirectory
from optuna.storages._rdb import models  # Optuna has no public word for its tables
from sqlalchemy import Connection, text

OPTUNAS: Mapping[str, frozenset[str]] = {
    table.name: frozenset(table.columns.keys())
    for table in models.BaseModel.metadata.sorted_tables
}
"""The columns of each of Optuna's tables."""


class DatabaseRefused(Exception):
    """This version of trimtab cannot use the database, now or later; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the schema `public` holds under Optuna's names and ours.

    Attributes:
        columns: the columns of each table whose name Optuna uses too.
        revisions: the rows of `alembic_version`, where Optuna and others keep the migration they are at; None without
            that table.
        schema_version: Optuna's older count of its schemas; None where it has not been told.
        is_ours: whether trimtab has migrated the database before.
        has_schema: whether there is a schema named `trimtab`.
    """

    columns: Mapping[str, frozenset[str]]
    revisions: tuple[str, ...] | None = None
    schema_version: int | None = None
    is_ours: bool = False
    has_schema: bool = False


def refuse_other_tables(connection: Connection) -> None:
    """See that Optuna's tables can be created, or are there as the Optuna that is installed knows them.

    Raises:
        DatabaseRefused: they are another Optuna's, or another tool's; what was found and what to do.
    """
    scripts = ScriptDirectory(str(Path(models.__file__).with_name("alembic")))
    known = tuple(script.revision for script in scripts.walk_revisions())
    if (trouble := trouble_with(_found(connection), known)) is not None:
        raise DatabaseRefused(
            f"{trouble} trimtab changes nothing in this database. It needs one that is empty, or that holds the tables of "
            f"Optuna {optuna.__version__} (revision {known[0]}): name another in TRIMTAB_DATABASE_URL."
        )


def trouble_with(found: Found, known: tuple[str, ...]) -> str | None:
    """Say what keeps Optuna and us from using the database, or None.

    Args:
        found: the tables and revisions that it holds.
        known: the revisions of Optuna's schema that the installed Optuna knows, newest first.
    """
    if found.has_schema and not found.is_ours:
        return "The database has a schema named trimtab that is another tool's."
    if not _has_columns(found, "version_info"):
        if found.columns:
            return f"The database has a table public.{min(found.columns)} that is another tool's; Optuna has one of this name."
        if found.revisions is not None:
            at = ", ".join(found.revisions) or "nothing yet"
            return (
                f"The database has a table public.alembic_version (at {at}) that is another tool's; "
                "Optuna has one of this name."
            )
        return None
    return _trouble_with_optuna(found, known)


def _trouble_with_optuna(found: Found, known: tuple[str, ...]) -> str | None:
    at = " and ".join(found.revisions or ())
    if not at and found.schema_version not in (None, models.SCHEMA_VERSION):
        at = f"schema {found.schema_version}"
    if at and found.revisions and not set(found.revisions) <= set(known):
        return (
            f"The database's public.alembic_version is at {at}, which Optuna {optuna.__version__} does not know: "
            "the tables are a newer Optuna's, or another tool has written there."
        )
    if at and at != known[0]:
        return (
            f"The database holds the tables of an older Optuna (at {at}); a backup, then "
            "`optuna storage upgrade --storage URL`, makes them new."
        )
    other = [name for name in found.columns if not _has_columns(found, name)]
    if other:
        return f"The database's table public.{min(other)} lacks columns that Optuna gives it."
    return None


def _has_columns(found: Found, table: str) -> bool:
    return OPTUNAS[table] <= found.columns.get(table, frozenset())


def _found(connection: Connection) -> Found:
    rows = connection.execute(
        text("""
            SELECT c.relname, array_agg(CAST(a.attname AS text)) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace = CAST('public' AS regnamespace) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND a.attnum > 0 AND NOT a.attisdropped
              AND c.relname = ANY(:names)
            GROUP BY c.relname"""),
        {"names": [*OPTUNAS, "alembic_version", "trimtab_version"]},
    )
    columns = {name: frozenset(of_table) for name, of_table in rows}
    is_ours = columns.pop("trimtab_version", None) is not None
    revisions = None
    if columns.pop("alembic_version", None) is not None:
        told = connection.execute(text("SELECT version_num FROM public.alembic_version"))
        revisions = tuple(sorted(told.scalars()))
    schema_version = None
    if OPTUNAS["version_info"] <= columns.get("version_info", frozenset()):
        told = connection.execute(text("SELECT schema_version FROM public.version_info"))
        schema_version = told.scalars().first()
    has_schema = connection.execute(
        text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'trimtab')")
    ).scalar_one()
    return Found(columns, revisions, schema_version, is_ours, has_schema)


@contextmanager
def studies_set_aside(connection: Connection) -> Generator[None]:
    """Take from Optuna's tables what our first migration refuses, and put it back when the block ends.

    That migration bound all studies by rules that a later one keeps to our own, and what has been released is never
    edited. All of it happens in the caller's transaction: nobody ever sees the rows missing.
    """
    connection.execute(text("LOCK TABLE public.trials, public.trial_values"))
    values = (
        connection.execute(
            text("""
            DELETE FROM public.trial_values WHERE value_type <> 'FINITE' OR value = 'NaN'
            RETURNING trial_value_id, trial_id, objective, value, CAST(value_type AS text) AS value_type""")
        )
        .mappings()
        .all()
    )
    numbers = (
        connection.execute(
            text("""
            UPDATE public.trials p SET number = NULL
            FROM (SELECT trial_id, number, row_number() OVER (PARTITION BY study_id, number ORDER BY trial_id) AS nth
                  FROM public.trials) second
            WHERE second.trial_id = p.trial_id AND second.nth > 1 RETURNING p.trial_id, second.number""")
        )
        .mappings()
        .all()
    )
    yield
    if values:
        connection.execute(
            text("""
                INSERT INTO public.trial_values (trial_value_id, trial_id, objective, value, value_type)
                VALUES (:trial_value_id, :trial_id, :objective, :value, CAST(:value_type AS public.trialvaluetype))"""),
            [dict(row) for row in values],
        )
    if numbers:
        connection.execute(
            text("UPDATE public.trials SET number = :number WHERE trial_id = :trial_id"),
            [dict(row) for row in numbers],
        )
