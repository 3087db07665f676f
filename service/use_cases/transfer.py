"""What a study takes over from studies that are done: asked for when it is created, chosen when its data are known."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from service.domain import transfer as rules
from service.domain.transfer import Earlier
from service.storage import experience, imports, listing, records
from service.storage.experience import EarlierStudy
from service.use_cases.context import Context, DocumentUnreadable
from service.use_cases.imports import legal
from trimtab.contract.faults import pointer_to
from trimtab.contract.models import MODEL, families_of, stored_model
from trimtab.contract.priors import Family, family_of
from trimtab.contract.problems import FieldError, Invalid
from trimtab.contract.recipe import Recipe
from trimtab.contract.records import StudyData
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Model


def awaited(connection: Connection, document: StudyDocument) -> StudyDocument:
    """Let a new study await what is transferred to it, where there is something; its starts are settled.

    Raises:
        Invalid: It names a study that does not exist, is not done, has nothing to give, or has another kind of task.
    """
    names = document.search.transfer
    if isinstance(names, tuple):
        _refuse(connection, document, names)
    if document.is_external:
        return document.model_copy(update={"transferred": ()})
    if not document.awaits_transfer:
        return document
    if document.search.sampler == "grid" or not _earlier(connection, document):
        return document.model_copy(update={"transferred": ()})
    return document


def settle(context: Context, connection: Connection, study_id: int, data: StudyData) -> None:
    """Put the best configurations of earlier studies among the first trials of a study whose data have become known.

    The caller holds the study's row. What is chosen stands in the stored document: a study that is deleted later, or done
    only then, changes nothing any more.
    """
    stored, trials_created = records.document_of(connection, study_id)
    try:
        document = context.documents.of(study_id, stored)
    except DocumentUnreadable:
        return  # which the next claim tells
    if document.awaits_transfer:
        earlier = _earlier(connection, document)
        settled = rules.with_transferred(document, data, earlier, trials_created)
        records.keep_document(connection, study_id, settled)


def _earlier(connection: Connection, document: StudyDocument) -> list[Earlier]:
    """Return the studies that may give points: those of these names, or all of its kind of model and of task."""
    names = document.search.transfer
    kind = document.task.kind
    if isinstance(names, tuple):
        rows = experience.earlier(connection, best=rules.BEST_OF_EACH, names=names)
        own = _read(row for row in rows if row.kind == kind and row.state == "done")
        return [*own, *_imported(connection, names)]
    rows = experience.earlier(connection, best=rules.BEST_OF_EACH, kind=kind)
    families = set(families_of(document.model).values())
    own = _read(row for row in rows if row.best and _family(row) in families)
    return [*own, *_imported(connection)]


def _imported(connection: Connection, names: Sequence[str] | None = None) -> Iterator[Earlier]:
    """Yield imported studies, whose data and models nobody knows, with what a recipe may have of them."""
    for row in imports.best(connection, most=rules.BEST_OF_EACH, names=names):
        best = [values for one in row.best if (values := legal(one))]
        if best:
            searched = frozenset(name for one in best for name in one)
            yield Earlier(row.name, model=None, data=None, searched=searched, best=best)


def _family(row: EarlierStudy) -> Family:
    model = stored_model(row.model, row.best[0])
    return family_of(str(model["backbone"]), str(model["weights"]))


def _read(rows: Iterable[EarlierStudy]) -> Iterator[Earlier]:
    """Yield the studies, but for those of other releases that this one cannot read."""
    for row in rows:
        # Of several models only what was best is taken over, so that all points of a study belong to one.
        best = [one for one in row.best if one.get(MODEL) == row.best[0].get(MODEL)]
        model = stored_model(row.model, row.best[0]) if best else None
        with suppress(ValidationError):
            yield Earlier(
                name=row.name,
                model=None if model is None else Model.model_validate(model),
                data=None if row.data is None else StudyData.model_validate(row.data),
                searched=frozenset(row.searched) - {MODEL},
                best=[_recipe({**row.fixed, **values}) for values in best],
                accuracy=row.accuracy,
            )


def _recipe(values: Mapping[str, Any]) -> Mapping[str, Scalar]:
    own = {name: value for name, value in values.items() if name != MODEL}
    return Recipe.model_validate(own).model_dump()


def _refuse(connection: Connection, document: StudyDocument, names: Sequence[str]) -> None:
    rows = {row.name: row for row in experience.earlier(connection, best=1, names=names)}
    errors = [
        FieldError(pointer=pointer_to(("search", "transfer", number)), code=code, message=why)
        for number, name in enumerate(names)
        for code, why in _trouble(connection, document, name, rows.get(name))
    ]
    if errors:
        raise Invalid(errors=errors)


def _trouble(
    connection: Connection, document: StudyDocument, name: str, row: EarlierStudy | None
) -> Iterator[tuple[str, str]]:
    """Yield what keeps a study that is named from giving anything."""
    if row is None and imports.study_id(connection, name) is not None:
        if not list(_imported(connection, [name])):
            yield (
                "nothing_completed",
                "none of its best trials has a hyperparameter of a recipe",
            )
    elif row is None:
        near = difflib.get_close_matches(name, listing.names(connection), n=3)
        hint = (
            f"; near names: {', '.join(near)}" if near else "; `trimtab study list` shows all"
        )
        yield "unknown_study", f"there is no study of this name{hint}"
    elif row.kind != document.task.kind:
        yield (
            "transfer_from_another_task_kind",
            f"its task is a {row.kind}, and this one is a {document.task.kind}: nothing is transferred from another task kind",
        )
    elif row.state != "done":
        yield (
            "study_not_done",
            f"it is {row.state}: only a study that is done is taken over from",
        )
    elif not row.best:
        yield "nothing_completed", "none of its trials has completed"
