"""A person has a configuration tried next."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import ValidationError
from sqlalchemy import Connection

from service.domain import enqueuing as rules
from service.sampling import enqueued
from service.sampling.distributions import stored
from service.storage import editing, enqueuing, idempotency, studies
from service.use_cases import reconciling
from service.use_cases.context import Context
from service.use_cases.races import again
from trimtab.contract.faults import pointer_to
from trimtab.contract.problems import (
    BudgetSpent,
    FieldError,
    GridTakesNoTrials,
    IdempotencyKeyReused,
    Invalid,
    StudyNotActive,
    StudyNotFound,
)
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import StudyDocument

ACTIVE = ("active", "paused")
FIRST_DECISION = 1
"""The number of epochs after which a search that pauses trials first decides on one that a person added."""


def enqueue(
    context: Context, name: str, values: Mapping[str, Scalar], idempotency_key: str | None
) -> int:
    """Queue a trial of these values before all proposals, and return its number; a repeat under the key adds none.

    Raises:
        StudyNotFound: there is none of this name.
        StudyNotActive: it begins no more trials.
        GridTakesNoTrials: it walks a grid.
        BudgetSpent: its budget has no trial left.
        Invalid: a name is not searched, or a value lies outside its dimension.
        IdempotencyKeyReused: the key came before with another request.
    """
    request = json.dumps([name, dict(values)], sort_keys=True)
    digest = hashlib.sha256(f"enqueue {request}".encode()).hexdigest()

    def verb() -> int:
        with reconciling.strangers_make_way(context):
            return _enqueue(context, name, values, idempotency_key, digest)

    return again(verb)


def _enqueue(
    context: Context, name: str, values: Mapping[str, Scalar], key: str | None, digest: str
) -> int:
    with context.database.transaction() as connection:
        kept = idempotency.read(connection, key) if key else None
        if kept is not None:
            if kept.request_sha256 != digest:
                raise IdempotencyKeyReused
            return int(kept.body["number"])
        study_id, number = _store(context, connection, name, values)
        if key:
            idempotency.keep(connection, key, digest, 201, json.dumps({"number": number}))
    context.sampling.touch(study_id)
    return number


def _store(
    context: Context, connection: Connection, name: str, values: Mapping[str, Scalar]
) -> tuple[int, int]:
    locked, row = studies.lock(connection, name), studies.by_name(connection, name)
    if locked is None or row is None:
        raise StudyNotFound(f"There is no study named {name!r}.")
    document = context.documents.of(row.study_id, row.document)
    spent = editing.spent(connection, row.study_id)
    if spent.state not in ACTIVE:
        raise StudyNotActive(
            f"The study is {spent.state}: it begins no more trials.", state=spent.state
        )
    if document.search.sampler == "grid":
        raise GridTakesNoTrials
    _refuse_faults(document, values)
    if (why := rules.nothing_left(document, spent)) is not None:
        raise BudgetSpent(why)
    left = document.search_budget.trials - spent.trials_created
    trials = [
        enqueuing.NewQueued(
            start.values, stored(document.space, start.values), start.proposed_by
        )
        for start in enqueued.queue(document, spent.trials_created, values)[:left]
    ]
    # A scheduler tells it at its first report how far it runs, as it tells all others when they begin.
    runs_until = FIRST_DECISION if document.search.schedules else None
    return row.study_id, enqueuing.enqueue(connection, row.study_id, trials, runs_until)


def _refuse_faults(document: StudyDocument, values: Mapping[str, Scalar]) -> None:
    errors = [
        FieldError(pointer=pointer_to(fault.location), code=fault.code, message=fault.message)
        for fault in rules.faults(document, values)
    ]
    if not errors:
        errors = list(_unfit(document, values))
    if errors:
        raise Invalid(errors=errors)


def _unfit(document: StudyDocument, values: Mapping[str, Scalar]) -> list[FieldError]:
    """What the values say of one another, as a recipe."""
    if document.is_external:
        return []
    try:
        document.recipe(values)
    except ValidationError as error:
        return [
            FieldError(
                pointer=pointer_to(("values", *detail["loc"])),
                code=detail["type"],
                message=detail["msg"],
            )
            for detail in error.errors(include_input=False, include_url=False)
        ]
    return []
