"""Statements that Postgres plans once per connection.

The verbs of the lease protocol are long statements over many tables: planning one costs more than running it. psycopg2
has no prepared statements of its own, so each is PREPAREd by name on first use and then EXECUTEd
(https://www.postgresql.org/docs/current/sql-prepare.html). A generic plan suits them all: they find rows by key.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


@dataclass(frozen=True)
class Statement:
    """One SQL statement with `:named` parameters; the same name may come more than once."""

    sql: str
    name: str = field(init=False)
    parameters: tuple[str, ...] = field(init=False)
    prepare: str = field(init=False)
    execute: str = field(init=False)

    def __post_init__(self) -> None:
        """Number the parameters, in the order of their first mention."""
        parameters = tuple(dict.fromkeys(_PARAMETER.findall(self.sql)))
        numbered = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", self.sql)
        name = "trimtab_" + hashlib.sha256(self.sql.encode()).hexdigest()[:16]
        values = f"({', '.join('%s' for _ in parameters)})" if parameters else ""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "prepare", f"PREPARE {name} AS {numbered}")
        object.__setattr__(self, "execute", f"EXECUTE {name}{values}")

    def rows(
        self, connection: Connection, *, first: "Statement | None" = None, **values: Any
    ) -> list[tuple[Any, ...]]:
        """Run it and return all rows.

        Args:
            connection: one of `Database`.
            first: runs before it in the same round trip. A statement sees what was committed before it began: what it
                reads beside a row that it waits for is older than that row, unless another has waited for it before.
            values: the parameters by name.

        Raises:
            psycopg2.Error: any error of the driver; `Database` translates those that are the database's trouble.
        """
        raw: Any = connection.connection.dbapi_connection
        known: set[str] = connection.connection.info.setdefault("prepared", set[str]())
        parts = (self,) if first is None else (first, self)
        with raw.cursor() as cursor:
            for part in parts:
                if part.name not in known:
                    cursor.execute(part.prepare)
                    known.add(part.name)
            cursor.execute(*bound(parts, values))
            return cursor.fetchall()

    def row(
        self, connection: Connection, *, first: "Statement | None" = None, **values: Any
    ) -> tuple[Any, ...] | None:
        """Run it and return its only row, or None."""
        rows = self.rows(connection, first=first, **values)
        return rows[0] if rows else None


def bound(
    parts: Sequence[Statement], values: Mapping[str, Any], *, committed: int = 0
) -> tuple[str, tuple[Any, ...]]:
    """The text that runs prepared statements in one round trip, and its values for the driver.

    Postgres takes them for one transaction, unless the first `committed` are to be one of their own.
    """
    texts = [part.execute for part in parts]
    if committed:
        texts = ["BEGIN", *texts[:committed], "COMMIT", *texts[committed:]]
    return "; ".join(texts), tuple(values[name] for part in parts for name in part.parameters)


def array(values: Sequence[float | UUID | None]) -> str:
    """Numbers or ids as an array literal without a type of its own: `ARRAY[NULL]` would be one of text."""
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"
