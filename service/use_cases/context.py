"""What every use case is given."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from service.sampling import Sampling
from service.storage.artifacts import Folder
from service.storage.engine import Database
from trimtab.contract.budget import Budget
from trimtab.contract.demand import Needs
from trimtab.contract.problems import Problem
from trimtab.contract.studies import StudyDocument

MOST_HOLDERS = 10_000
DEFAULT_PRIORITY: int = StudyDocument.model_fields["priority"].default


class DocumentUnreadable(Problem):
    """A stored document that this release cannot read, of an older or a newer one."""


@dataclass(frozen=True)
class Documents:
    """Parsed study documents: parsing one costs more than a claim's SQL.

    A person may change a document's budget, priority, parallel and needs, on any replica. Claims go by the columns of these, so that a
    document that is `known` may have older ones: who tells them reads the stored document, and asks `of`. A changed space is
    counted in the document: who proposes, leases or judges compares the counts.
    A document that awaits what is transferred to it is never kept, since any replica may be told of the study's data.
    """

    _parsed: dict[int, StudyDocument] = field(default_factory=dict[int, StudyDocument])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, study_id: int) -> StudyDocument | None:
        """The study's document, if this process has met it."""
        with self._lock:
            return self._parsed.get(study_id)

    def of(self, study_id: int, stored: Mapping[str, Any]) -> StudyDocument:
        """The study's document, parsed once in this process, and again when what a person may change has changed.

        Raises:
            DocumentUnreadable: it is not one of this release.
        """
        known = self.known(study_id)
        if known is not None and _changeable(known) == _stored_changeable(stored):
            return known
        return self._parse(study_id, stored)

    def forget(self, study_id: int) -> None:
        """The document has got another name."""
        with self._lock:
            self._parsed.pop(study_id, None)

    def _parse(self, study_id: int, stored: Mapping[str, Any]) -> StudyDocument:
        try:
            parsed = StudyDocument.model_validate_json(json.dumps(stored))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise DocumentUnreadable(
                "The study's document is not one of this release: "
                f"{'/'.join(map(str, first['loc']))}: {first['msg']}"
            ) from error
        if parsed.awaits_transfer:
            return parsed
        with self._lock:
            if len(self._parsed) >= 1000:
                self._parsed.clear()
            self._parsed[study_id] = parsed
        return parsed


def _changeable(document: StudyDocument) -> tuple[object, ...]:
    edits = len(document.space_edits)
    return document.budget, document.priority, document.parallel, document.needs, edits


def _stored_changeable(stored: Mapping[str, Any]) -> tuple[object, ...]:
    needs = stored.get("needs")
    return (
        Budget.model_validate(stored["budget"]),
        stored.get("priority", DEFAULT_PRIORITY),
        stored.get("parallel"),
        None if needs is None else Needs.model_validate(needs),
        len(stored.get("space_edits", ())),
    )


@dataclass(frozen=True, slots=True)
class Holder:
    """What this process knows of a lease's holder, from its claim and its reports.

    Attributes:
        study_id: the study.
        number: the trial's number.
        last_step: the last step that this attempt has reported; -1: none yet.
        reported: the number of reports that the trial has, all attempts counted.
        curve: the trial's values by step; needed only where the study has a pruner.
        epochs: the number of epochs that the trial is to have, where that is searched.
        runs_until: the number of epochs at which the search decides on it; None: it runs to its end.
    """

    study_id: int
    number: int
    last_step: int = -1
    reported: int = 0
    curve: Mapping[int, float | None] = field(default_factory=dict[int, float | None])
    epochs: int | None = None
    runs_until: int | None = None


@dataclass(frozen=True)
class Holders:
    """What this process knows of leases whose holders spoke to it.

    It spares a look. Whatever is stored on its word is stored under conditions.
    """

    _known: dict[UUID, Holder] = field(default_factory=dict[UUID, Holder])

    def note(self, lease_id: UUID, holder: Holder) -> None:
        """Remember this; safe from any thread."""
        if len(self._known) >= MOST_HOLDERS:
            self._known.clear()
        self._known[lease_id] = holder

    def forget(self, lease_id: UUID) -> None:
        """The lease has ended."""
        self._known.pop(lease_id, None)

    def known(self, lease_id: UUID) -> Holder | None:
        """What was noted last; None for a lease that is not known."""
        return self._known.get(lease_id)


@dataclass(frozen=True)
class Context:
    """The rooms below, assembled once by the app."""

    database: Database
    sampling: Sampling
    artifacts: Folder
    documents: Documents = field(default_factory=Documents)
    holders: Holders = field(default_factory=Holders)
