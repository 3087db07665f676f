"""What every use case is given."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from service.sampling import Sampling
from service.storage.artifacts import Folder
from service.storage.engine import Database
from trimtab.contract.studies import StudyDocument

MOST_HOLDERS = 10_000


@dataclass(frozen=True)
class Documents:
    """Parsed study documents: a document never changes, and parsing it costs more than a claim's SQL."""

    _parsed: dict[int, StudyDocument] = field(default_factory=dict[int, StudyDocument])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, study_id: int) -> StudyDocument | None:
        """The study's document, if this process has met it."""
        with self._lock:
            return self._parsed.get(study_id)

    def of(self, study_id: int, stored: Mapping[str, Any]) -> StudyDocument:
        """The study's document, parsed once in this process."""
        return self.known(study_id) or self._parse(study_id, stored)

    def _parse(self, study_id: int, stored: Mapping[str, Any]) -> StudyDocument:
        parsed = StudyDocument.model_validate_json(json.dumps(stored))
        with self._lock:
            if len(self._parsed) >= 1000:
                self._parsed.clear()
            self._parsed[study_id] = parsed
        return parsed


@dataclass(frozen=True)
class Holders:
    """What this process knows of leases whose holders spoke to it: the study, and the last step that was stored.

    It spares a look, and decides nothing: whatever is stored on its word is stored under conditions.
    """

    _known: dict[UUID, tuple[int, int]] = field(default_factory=dict[UUID, tuple[int, int]])

    def note(self, lease_id: UUID, study_id: int, last_step: int) -> None:
        """Remember this; safe from any thread."""
        if len(self._known) >= MOST_HOLDERS:
            self._known.clear()
        self._known[lease_id] = (study_id, last_step)

    def forget(self, lease_id: UUID) -> None:
        """The lease has ended."""
        self._known.pop(lease_id, None)

    def known(self, lease_id: UUID) -> tuple[int, int] | None:
        """The study and the last step, -1 for none yet; None for a lease that is not known."""
        return self._known.get(lease_id)


@dataclass(frozen=True)
class Context:
    """The rooms below, assembled once by the app."""

    database: Database
    sampling: Sampling
    artifacts: Folder
    documents: Documents = field(default_factory=Documents)
    holders: Holders = field(default_factory=Holders)
