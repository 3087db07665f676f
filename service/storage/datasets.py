"""Data sets that people have uploaded, in SQL: names of artifacts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

OF_STUDIES = r"""
    SELECT substring(document #>> '{task,dataset,path}' FROM '^trimtab://([0-9a-f]{64})')
    FROM trimtab.studies WHERE state <> 'cancelled'"""
"""The sha256 of each data set that a study may still be trained on."""


def name(connection: Connection, name: str, sha256: str) -> None:
    """Let a name stand for a recorded artifact."""
    connection.execute(
        text("""
            INSERT INTO trimtab.datasets (name, sha256) VALUES (:name, :sha256)
            ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, uploaded_at = trimtab.now()
            WHERE datasets.sha256 <> excluded.sha256"""),
        {"name": name, "sha256": sha256},
    )


def listed(connection: Connection, name: str | None = None) -> Sequence[Row[Any]]:
    """All data sets by their names, or the one of a name: name, sha256, bytes, uploaded_at."""
    return connection.execute(
        text("""
            SELECT d.name, d.sha256, a.bytes, d.uploaded_at
            FROM trimtab.datasets d JOIN trimtab.artifacts a USING (sha256)
            WHERE :name IS NULL OR d.name = :name ORDER BY d.name"""),
        {"name": name},
    ).all()


def forget(connection: Connection, name: str) -> bool:
    """Delete a name; whether there was one."""
    deleted = connection.execute(
        text("DELETE FROM trimtab.datasets WHERE name = :name"), {"name": name}
    )
    return deleted.rowcount > 0
