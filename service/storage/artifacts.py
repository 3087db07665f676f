"""Artifacts: bytes named by their sha256, in a folder that replicas share, with a row for each."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from service.storage.datasets import OF_STUDIES
from service.storage.ranking import BEST_FIRST_OF_ANY, MAY_WIN
from service.storage.refits import ENSEMBLE
from trimtab.contract.problems import Sha256Mismatch, StorageFull

INCOMING = ".incoming-"
"""How the name of a file begins whose bytes are not whole yet."""


def record(connection: Connection, sha256: str, size: int) -> None:
    """Note that the artifact's bytes are in the folder."""
    connection.execute(
        text("""
            INSERT INTO trimtab.artifacts (sha256, bytes) VALUES (:sha256, :bytes)
            ON CONFLICT (sha256) DO UPDATE SET named_at = trimtab.now()"""),
        {"sha256": sha256, "bytes": size},
    )


def missing(connection: Connection, sha256s: Sequence[str]) -> list[str]:
    """Those of the artifacts that were never recorded; the others are not collected for a while."""
    known = connection.execute(
        text("""
            UPDATE trimtab.artifacts SET named_at = trimtab.now()
            WHERE sha256 = ANY(:sha256s) RETURNING sha256"""),
        {"sha256s": list(sha256s)},
    ).scalars()
    return sorted(set(sha256s) - set(known))


def size(connection: Connection, sha256: str) -> int:
    """How many bytes a recorded artifact has."""
    return connection.execute(
        text("SELECT bytes FROM trimtab.artifacts WHERE sha256 = :sha256"), {"sha256": sha256}
    ).scalar_one()


def record_found(connection: Connection, files: Mapping[str, int]) -> None:
    """Note files whose upload ended before it was recorded, by their sizes: what nothing needs is collected by its row."""
    connection.execute(
        text("""
            INSERT INTO trimtab.artifacts (sha256, bytes)
            SELECT * FROM unnest(CAST(:sha256s AS text[]), CAST(:sizes AS bigint[]))
            ON CONFLICT (sha256) DO NOTHING"""),
        {"sha256s": list(files), "sizes": list(files.values())},
    )


def delete_unneeded(connection: Connection, kept_s: float, limit: int) -> list[str]:
    """Delete the rows of artifacts that nothing needs, and that nobody has named for so long; returns their names.

    Needed are the newest, the previous and the best state of a trial that is not over; the newest and the best of each
    study's best trial, and until the study is over of all that its model is to be made of, refits included; and models,
    those that others learn from and those of a study's earlier ends included; data sets that have a name or that a
    study may be trained on.
    The caller removes the files before it commits: who records one of them meanwhile waits for that.
    """
    rows = connection.execute(
        text(f"""
            WITH state AS (
                SELECT checkpoint, best_checkpoint, previous_checkpoint FROM trimtab.trials
                WHERE state IN ('queued', 'running', 'paused')
                UNION ALL
                SELECT best.checkpoint, best.best_checkpoint, NULL FROM trimtab.studies s CROSS JOIN LATERAL (
                    SELECT t.checkpoint, t.best_checkpoint FROM trimtab.trials t
                    WHERE t.study_id = s.study_id AND {MAY_WIN}
                    ORDER BY {BEST_FIRST_OF_ANY}
                    LIMIT CASE WHEN s.state IN ('done', 'cancelled') THEN 1 ELSE {ENSEMBLE} END) best
                UNION ALL
                SELECT t.checkpoint, t.best_checkpoint, NULL
                FROM trimtab.trials t JOIN trimtab.studies s USING (study_id)
                WHERE t.kind = 'refit' AND t.state = 'completed' AND NOT t.past AND s.state = 'finalising'),
            needed AS (
                SELECT checkpoint ->> 'sha256' AS sha256 FROM state
                UNION ALL SELECT best_checkpoint ->> 'sha256' FROM state
                UNION ALL SELECT previous_checkpoint ->> 'sha256' FROM state
                UNION ALL SELECT final ->> 'model_sha256' FROM trimtab.studies
                UNION ALL SELECT final ->> 'validated_sha256' FROM trimtab.studies
                UNION ALL SELECT unnest(ARRAY[f ->> 'model_sha256', f ->> 'validated_sha256'])
                          FROM trimtab.studies, jsonb_array_elements(earlier_finals) f
                UNION ALL SELECT document -> 'teacher' -> 'model' ->> 'sha256' FROM trimtab.studies
                          WHERE state NOT IN ('done', 'cancelled')
                UNION ALL SELECT sha256 FROM trimtab.datasets
                UNION ALL {OF_STUDIES})
            DELETE FROM trimtab.artifacts WHERE sha256 IN (
                SELECT a.sha256 FROM trimtab.artifacts a
                WHERE a.named_at < trimtab.now() - make_interval(secs => :kept_s)
                  AND NOT EXISTS (SELECT FROM needed n WHERE n.sha256 = a.sha256)
                LIMIT :limit FOR UPDATE OF a SKIP LOCKED)
            RETURNING sha256"""),
        {"kept_s": kept_s, "limit": limit},
    )
    return list(rows.scalars())


def bytes_of_study(connection: Connection, study_id: int) -> int:
    """What the states that a study's trials and refits name, and its models, take on disk."""
    return connection.execute(
        text("""
            SELECT CAST(coalesce(sum(bytes), 0) AS bigint) FROM trimtab.artifacts WHERE sha256 IN (
                SELECT kept ->> 'sha256' FROM trimtab.trials t
                CROSS JOIN LATERAL (VALUES (checkpoint), (previous_checkpoint), (best_checkpoint)) s (kept)
                WHERE t.study_id = :study_id
                UNION ALL SELECT unnest(ARRAY[final ->> 'model_sha256', final ->> 'validated_sha256'])
                FROM trimtab.studies WHERE study_id = :study_id)"""),
        {"study_id": study_id},
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
            handle, name = tempfile.mkstemp(prefix=INCOMING, dir=target.parent)
        except OSError as error:
            raise StorageFull("The artifact folder cannot be written.") from error
        beside = Path(name)
        try:
            size = await _write(handle, sha256, chunks)
            beside.rename(target)
        finally:
            beside.unlink(missing_ok=True)
        return size

    def remove(self, sha256: str) -> None:
        """Remove an artifact's bytes, if they are there."""
        self.path(sha256).unlink(missing_ok=True)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Every artifact with its size in bytes, whether or not it is recorded."""
        for file in self.root.glob("??/*"):
            if not file.name.startswith(INCOMING):
                with suppress(FileNotFoundError):  # another replica collects
                    yield file.name, file.stat().st_size

    def remove_unfinished(self, unchanged_s: float) -> None:
        """Remove what uploads that were killed have left, once it has not grown for so many seconds."""
        unfinished = list(self.root.glob(f"??/{INCOMING}*"))
        if not unfinished:
            return
        with tempfile.TemporaryFile(dir=self.root) as file:
            now = os.fstat(
                file.fileno()
            ).st_mtime  # the file system's clock: ours may be another
        for file in unfinished:
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < now - unchanged_s:
                    file.unlink()


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
