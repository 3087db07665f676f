"""The fetch of one address, from the question whether it has changed to the folder that holds what it names."""

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from trimtab.contract.message import Message, Sha256
from worker import atomic_files, disk_cache
from worker.fetching import unpacking
from worker.fetching.errors import Abandoned, ArchiveUnreadable, TooLarge, Unanswered
from worker.fetching.transfers import Opened, Origin, Part, Version
from worker.fetching.turns import GoOn

Note = TypeVar("Note", bound=Message)

_TRIES = 6
"""So many tries in a row without a further byte, and nobody answers."""
_FIRST_WAIT_S = 0.5
"""Before the second of them; it doubles from there on."""
_LOOK_BYTES = 64 << 20
"""The room is looked at again after so many bytes."""


class Kept(Message):
    """What was fetched from an address."""

    sha256: Sha256
    bytes: int
    version: Version


@dataclass(frozen=True, slots=True)
class OneFetch:
    """One address, whose turn its caller has.

    Attributes:
        cache_dir: The worker's cache.
        limit_bytes: The bound of the whole cache; None leaves a tenth of the disk free.
        origin: The way of fetching.
        address: The address, without what follows its `#`.
        key: A name for the address that can be a file's.
        go_on: Waits for so many seconds, and returns false when the fetch is to be left.
    """

    cache_dir: Path
    limit_bytes: int | None
    origin: Origin
    address: str
    key: str
    go_on: GoOn

    @property
    def _folder(self) -> Path:
        return self.cache_dir / "fetched"

    @property
    def _download(self) -> Path:
        return self._folder / "downloads" / self.key

    @property
    def lock(self) -> Path:
        """The file of the lock that keeps others from fetching the address meanwhile."""
        return self._folder / "addresses" / f"{self.key}.lock"

    def entry_of(self, kept: Kept) -> Path:
        """Return the folder of what was fetched."""
        return self._folder / kept.sha256

    def kept(self) -> tuple[Kept, disk_cache.Hold] | None:
        """Return what this machine has of the address, and what keeps it; None where it has nothing."""
        kept = _read(self._note("kept"), Kept)
        if kept is None:
            return None
        hold = disk_cache.hold(self.entry_of(kept))
        if self.entry_of(kept).is_dir():
            return kept, hold
        hold.release()
        return None

    def newest(self, known: Kept | None) -> tuple[Kept, disk_cache.Hold] | None:
        """Fetch what the address names now; None where that is what is known.

        Raises:
            FetchError: It cannot be fetched, is broken, or does not fit into the cache.
            Abandoned: `go_on` said so.
        """
        tries = 0
        while True:
            before = self._arrived()
            try:
                return self._once(known)
            except Unanswered:
                tries = 1 if self._arrived() > before else tries + 1
                if tries >= _TRIES:
                    raise
            if not self.go_on(_FIRST_WAIT_S * 2 ** (tries - 1)):
                raise Abandoned

    def _once(self, known: Kept | None) -> tuple[Kept, disk_cache.Hold] | None:
        with ExitStack() as stack:
            # Held from here on: what has arrived is no more to be collected than what is in use.
            stack.callback(disk_cache.hold(self._download).release)
            part = self._part()
            opened = stack.enter_context(
                self.origin.opened(self.address, known and known.version, part)
            )
            if opened is None:
                return None
            self._receive(opened)
            return self._keep(opened.version)

    # What arrives

    def _receive(self, opened: Opened) -> None:
        atomic_files.write(self._note("part"), opened.version.model_dump_json().encode())
        self._make_room((opened.version.bytes or opened.offset) - opened.offset)
        with self._download.open("ab" if opened.offset else "wb") as file:
            file.truncate(opened.offset)
            looked_at = size = opened.offset
            for chunk in opened.chunks:
                size += file.write(chunk)
                if size - looked_at >= _LOOK_BYTES:
                    looked_at = size
                    self._make_room(0)
                self._leave_if_asked()
        if opened.version.bytes not in (None, size):
            raise Unanswered(self.address, f"{size} bytes came of {opened.version.bytes}")

    def _arrived(self) -> int:
        try:
            return self._download.stat().st_size
        except FileNotFoundError:
            return 0

    def _part(self) -> Part | None:
        version, arrived = _read(self._note("part"), Version), self._arrived()
        return Part(version=version, bytes=arrived) if version and arrived else None

    def _leave_if_asked(self) -> None:
        if not self.go_on(0.0):
            raise Abandoned

    # What is kept

    def _keep(self, version: Version) -> tuple[Kept, disk_cache.Hold]:
        size = self._arrived()
        kept = Kept(sha256=atomic_files.sha256_of(self._download), bytes=size, version=version)
        entry = self.entry_of(kept)
        hold = disk_cache.hold(entry)
        try:
            if not entry.is_dir():
                self._unpack(entry)
            atomic_files.write(self._note("kept"), kept.model_dump_json().encode())
        except BaseException as error:
            hold.release()
            if isinstance(error, ArchiveUnreadable):
                # The next try begins with the first byte: what came may be what is broken.
                self._forget_download()
            raise
        self._forget_download()
        return kept, hold

    def _unpack(self, entry: Path) -> None:
        beside = self._folder / f".{entry.name}.{self.key[:16]}.part"
        # Whoever left it is dead: nobody else has this address now.
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        growth = _Growth(self)
        try:
            unpacking.unpack(self._download, beside, self.address, growth.grow)
            # To the disk first: after a crash of the machine a rename may be there, and the files empty. One call for
            # all of what may be a million files.
            os.sync()
            _show(beside, entry)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        disk_cache.note_use(entry, disk_cache.size_of(entry))

    def make_room(self, beside: int, need: int) -> None:
        """Remove what is longest unused, until so many bytes fit in beside those that are no entry yet.

        Raises:
            TooLarge: The entries in use leave too little room.
        """
        over = disk_cache.collect(self.cache_dir, self.limit_bytes, beside=beside, need=need)
        if over:
            raise TooLarge(self.address, self._arrived() + beside + need, over)

    def _make_room(self, need: int) -> None:
        self.make_room(0, need)

    def _forget_download(self) -> None:
        self._download.unlink(missing_ok=True)
        self._note("part").unlink(missing_ok=True)

    def _note(self, what: str) -> Path:
        return self._folder / "addresses" / f"{self.key}.{what}.json"


@dataclass(slots=True)
class _Growth:
    """Counts what is unpacked, and sees that there is room for it."""

    fetch: OneFetch
    written: int = 0
    looked_at: int = -_LOOK_BYTES

    def grow(self, size: int) -> None:
        """Make room for a piece; leave where the trial is to end."""
        if self.written + size - self.looked_at >= _LOOK_BYTES:
            self.looked_at = self.written
            self.fetch.make_room(self.written, size)
        self.written += size
        if not self.fetch.go_on(0.0):
            raise Abandoned


def _show(beside: Path, entry: Path) -> None:
    try:
        beside.rename(entry)
    except OSError:
        # The same content came from another address meanwhile.
        if not entry.is_dir():
            raise


def _read(path: Path, kind: type[Note]) -> Note | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
