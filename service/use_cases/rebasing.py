"""Accept data that have changed: the study begins anew, and what was is kept under another name."""

import hashlib
from collections.abc import Callable
from itertools import count

from sqlalchemy import Connection

from service.domain.transfer import untransferred
from service.storage import idempotency, rebasing, studies
from service.use_cases.context import Context
from service.use_cases.races import again
from service.use_cases.studies import read
from trimtab.contract.problems import IdempotencyKeyReused, StudyNotActive, StudyNotFound
from trimtab.contract.studies import Study, StudyDocument

LONGEST_NAME = 63
OVER = ("done", "deleting")


def rebase(context: Context, name: str, idempotency_key: str | None) -> Study:
    """Begin a study anew with the data that its workers have now; a repeat under the same key changes nothing.

    The study so far is cancelled and keeps its history under the name `NAME.before-N`. One that has no data yet is left
    as it is: its first trial takes what it finds.

    Raises:
        StudyNotFound: there is none of this name.
        StudyNotActive: it is over.
        IdempotencyKeyReused: the key came before with another request.
    """
    again(lambda: _rebase(context, name, idempotency_key))
    return read(context, name)


def _rebase(context: Context, name: str, key: str | None) -> None:
    digest = hashlib.sha256(f"rebase {name}".encode()).hexdigest()
    with context.database.transaction() as connection:
        kept = idempotency.read(connection, key) if key else None
        if kept is not None:
            if kept.request_sha256 != digest:
                raise IdempotencyKeyReused
            return
        _begin_anew(context, connection, name)
        if key:
            idempotency.keep(connection, key, digest, 200, "{}")


def _begin_anew(context: Context, connection: Connection, name: str) -> None:
    # Twice: whoever waited for another rebase finds the study that it has begun only with a second look.
    locked = studies.lock(connection, name) or studies.lock(connection, name)
    row = studies.by_name(connection, name)
    if locked is None or row is None:
        raise StudyNotFound(f"There is no study named {name!r}.")
    if row.state in OVER:
        raise StudyNotActive(f"The study is {row.state}; create another one.", state=row.state)
    if row.data is None:
        return
    document = context.documents.of(row.study_id, row.document)
    old = free_name(name, lambda one: studies.name_taken(connection, one) is not None)
    _put_away(connection, row, document.model_copy(update={"name": old}))
    studies.insert(connection, untransferred(document))
    context.documents.forget(row.study_id)


def _put_away(connection: Connection, row: studies.StudyRow, document: StudyDocument) -> None:
    rebasing.rename(connection, row.study_id, document)
    if row.state != "cancelled":
        problem = f"Its data changed; the study {row.name} begins anew."
        studies.set_state(
            connection,
            row.study_id,
            "cancelled",
            "study_cancelled",
            problem=problem,
            ended_by="cancelled",
        )
        studies.cancel_unleased(connection, row.study_id)


def free_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """A name for what was, `NAME.before-N` with the smallest N that is free; a long NAME is cut."""
    candidates = (_before(name, number) for number in count(1))
    return next(one for one in candidates if not is_taken(one))


def _before(name: str, number: int) -> str:
    suffix = f".before-{number}"
    return name[: LONGEST_NAME - len(suffix)].rstrip("._-") + suffix
