"""Data sets from elsewhere, in this machine's cache: fetched once for all its workers, and named by their content.

fetched/
├── <sha256>/          what was fetched, unpacked; appears whole, by rename
├── downloads/<key>    what has arrived so far; a later try goes on from there
└── addresses/         for the sha256 of each address what was fetched from it, and its lock
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trimtab.contract.data_addresses import divided, scheme_of, shown
from trimtab.contract.records import Fetched
from worker import disk_cache
from worker.fetching.allowed import Allowed
from worker.fetching.errors import NoRoom, Unanswered
from worker.fetching.one_fetch import Kept, OneFetch
from worker.fetching.transfers import Origin
from worker.fetching.turns import GoOn, turn

log = logging.getLogger(__name__)

FRESH_S = 60.0
"""For so long a process does not ask again whether what it fetched has changed."""


@dataclass(frozen=True, slots=True)
class AtHand:
    """A data set in the cache, which stays there until it is released.

    Attributes:
        folder: The folder that holds it.
        fetched: The bytes that came, as a record tells of them.
        hold: The lock that keeps it.
    """

    folder: Path
    fetched: Fetched
    hold: disk_cache.Hold


@dataclass
class Store:
    """The data sets that this machine has fetched. Threads and processes may share its folder.

    Attributes:
        cache_dir: The worker's cache.
        limit_bytes: The bound of the whole cache; None leaves a tenth of the disk free.
        allowed: The addresses that may be fetched from.
        origins: The way of fetching by scheme.
        clock: Monotonic clock, in seconds.
    """

    cache_dir: Path
    limit_bytes: int | None
    allowed: Allowed
    origins: Mapping[str, Origin]
    clock: Callable[[], float] = time.monotonic
    _looked_at: dict[str, float] = field(default_factory=dict[str, float])

    def fetch(self, address: str, go_on: GoOn) -> AtHand:
        """Return the data set of an address; fetch it where this machine does not have it as it is now.

        Args:
            address: The address; what follows its `#` is the caller's to find.
            go_on: Waits for so many seconds, and returns false when the fetch is to be left.

        Raises:
            FetchError: It cannot be fetched, is broken, or does not fit into the cache.
            Abandoned: `go_on` said so.
        """
        self.allowed.check(address)
        source = divided(address)[0]
        fetch = OneFetch(
            self.cache_dir,
            self.limit_bytes,
            self.origins[scheme_of(source) or ""],
            source,
            hashlib.sha256(source.encode()).hexdigest(),
            go_on,
        )
        try:
            with turn(fetch.lock, go_on):
                kept, hold = self._looked(fetch)
        except OSError as error:
            raise NoRoom(source, error.strerror or str(error)) from error
        disk_cache.collect(self.cache_dir, self.limit_bytes)
        fetched = Fetched(
            address=shown(source),
            sha256=kept.sha256,
            bytes=kept.bytes,
            version=kept.version.shown,
        )
        return AtHand(fetch.entry_of(kept), fetched, hold)

    def _looked(self, fetch: OneFetch) -> tuple[Kept, disk_cache.Hold]:
        """Return what is at hand; ask first whether it is still what the address names, but not all the time."""
        at_hand = fetch.kept()
        looked_at = self._looked_at.get(fetch.key)
        if at_hand and looked_at is not None and self.clock() - looked_at < FRESH_S:
            return at_hand
        try:
            found = fetch.newest(at_hand[0] if at_hand else None)
        except Unanswered as error:
            if at_hand is None:
                raise
            # The study compares the data with those that it began with, so that old ones do no harm.
            log.warning("%s; what this machine has of it is used", error)
            return at_hand
        self._looked_at[fetch.key] = self.clock()
        if found is None and at_hand is not None:
            return at_hand
        if found is None:
            raise AssertionError("nothing was known that could have stayed the same")
        if at_hand is not None:
            at_hand[1].release()
        return found
