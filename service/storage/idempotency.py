"""Answers kept under their Idempotency-Key, so that a repeated request has one effect."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Kept:
    """The first request's digest and answer."""

    request_sha256: str
    status: int
    body: dict[str, Any]


def read(connection: Connection, key: str) -> Kept | None:
    """What was answered under this key before, or None."""
    row = connection.execute(
        text("SELECT request_sha256, status, body FROM trimtab.idempotency WHERE key = :key"),
        {"key": key},
    ).one_or_none()
    return None if row is None else Kept(*row)


def keep(connection: Connection, key: str, request_sha256: str, status: int, body: str) -> None:
    """Keep an answer (JSON text) in the transaction of its effect.

    Raises:
        IntegrityError: the same key was used at the same moment; read again.
    """
    connection.execute(
        text("""
            INSERT INTO trimtab.idempotency (key, request_sha256, status, body)
            VALUES (:key, :request_sha256, :status, CAST(:body AS json))"""),
        {"key": key, "request_sha256": request_sha256, "status": status, "body": body},
    )
