"""Artifacts: bytes named by their sha256, in a folder that replicas share, with a row for each."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from trimtab.contract.problems import Sha256Mismatch, StorageFull


def record(connection: Connection, sha256: str, size: int) -> None:
    """Note that the artifact's bytes are in the folder; a repeat changes nothing."""
    connection.execute(
        text("""
            INSERT INTO trimtab.artifacts (sha256, bytes) VALUES (:sha256, :bytes)
            ON CONFLICT (sha256) DO NOTHING"""),
        {"sha256": sha256, "bytes": size},
    )


def missing(connection: Connection, sha256s: list[str]) -> list[str]:
    """Those of the artifacts that were never recorded."""
    known = connection.execute(
        text("SELECT sha256 FROM trimtab.artifacts WHERE sha256 = ANY(:sha256s)"),
        {"sha256s": sha256s},
    ).scalars()
    return sorted(set(sha256s) - set(known))


def size(connection: Connection, sha256: str) -> int:
    """How many bytes a recorded artifact has."""
    return connection.execute(
        text("SELECT bytes FROM trimtab.artifacts WHERE sha256 = :sha256"), {"sha256": sha256}
    ).scalar_one()


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the bytes are; a name appears only when its bytes are whole and on disk."""

    root: Path

    def path(self, sha256: str) -> Path:
        """Where an artifact is kept, whether or not it is there."""
        return self.root / sha256[:2] / sha256

    async def receive(self, sha256: str, chunks: AsyncIterator[bytes]) -> int:
        """Write the stream beside, compare its sha256, rename; returns the size in bytes.

        Raises:
            Sha256Mismatch: other bytes arrived than were named.
            StorageFull: the disk is full.
        """
        target = self.path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".incoming-", dir=target.parent)
        except OSError as error:
            raise StorageFull("The artifact folder cannot be written.") from error
        beside = Path(name)
        try:
            size = await _write(handle, sha256, chunks)
            beside.rename(target)
        finally:
            beside.unlink(missing_ok=True)
        return size


async def _write(handle: int, sha256: str, chunks: AsyncIterator[bytes]) -> int:
    digest, size = hashlib.sha256(), 0
    with os.fdopen(handle, "wb") as file:
        try:
            async for chunk in chunks:
                digest.update(chunk)
                size += file.write(chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())  # a slow disk holds nobody else up
        except OSError as error:
            raise StorageFull("The artifact folder is full.") from error
    if digest.hexdigest() != sha256:
        raise Sha256Mismatch
    return size
