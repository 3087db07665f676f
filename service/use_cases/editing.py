"""Change a study that has begun: its budget, its priority, `parallel`, `needs`, its space; more budget takes a study that is done up again."""

from collections.abc import Iterable

from pydantic import ValidationError
from sqlalchemy import Connection

from service.domain import editing as rules
from service.domain import space_editing as space_rules
from service.domain.lifecycle import STUDY_STEPS_BACK
from service.storage import editing, studies
from service.use_cases import ending
from service.use_cases.context import Context
from service.use_cases.settling import refuse_narrow
from service.use_cases.studies import read
from trimtab.contract.edits import StudyEdit
from trimtab.contract.faults import Fault, pointer_to, refusal
from trimtab.contract.problems import FieldError, Invalid, StudyNotActive, StudyNotFound
from trimtab.contract.studies import Study, StudyDocument


def edit(context: Context, name: str, changes: StudyEdit) -> Study:
    """Change a study's budget, priority, `parallel`, `needs` or space; a repeat changes nothing, and takes no study up again.

    Raises:
        StudyNotFound: there is none of this name.
        StudyNotActive: its state takes no such change.
        Invalid: the budget is less than what was spent, or no study may have this space, or trials that run lie outside.
    """
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        row = studies.by_name(connection, name)
        if locked is None or row is None:
            raise StudyNotFound(f"There is no study named {name!r}.")
        before = context.documents.of(row.study_id, row.document)
        after = rules.edited(_reshaped(connection, row.study_id, before, changes), changes)
        if after != before:
            _change(connection, row.study_id, before, after)
    # A limit that is now reached ends the search.
    ending.follow(context, name)
    return read(context, name)


def _reshaped(
    connection: Connection, study_id: int, before: StudyDocument, changes: StudyEdit
) -> StudyDocument:
    """Return the document with another space, if the change has one and it is another."""
    if changes.space is None:
        return before
    _refuse(space_rules.request_faults(before, changes))
    trials = editing.begun(connection, study_id)
    try:
        after = space_rules.reshaped(before, changes, len(trials))
    except ValidationError as error:
        given = before.model_dump(mode="json") | changes.model_dump(mode="json")
        raise refusal(StudyDocument, given, error.errors(include_url=False)) from None
    if (after.space, after.fixed) == (before.space, before.fixed):
        return before
    refuse_narrow(after)
    counted, faults = space_rules.counted(after, trials)
    if rules.refusal(before, counted, editing.spent(connection, study_id).state) is None:
        _refuse(faults)
    return counted


def _change(
    connection: Connection, study_id: int, before: StudyDocument, after: StudyDocument
) -> None:
    spent = editing.spent(connection, study_id)
    if (why := rules.refusal(before, after, spent.state)) is not None:
        raise StudyNotActive(why, state=spent.state)
    _refuse(rules.needless(after))
    if after.budget != before.budget:
        _refuse(rules.faults(after, spent))
    if spent.state in STUDY_STEPS_BACK:
        editing.reopen(connection, study_id, before, after)
    else:
        editing.change(connection, study_id, before, after)
    limit = editing.reached_limit(connection, study_id)
    if limit is not None and _matters(limit, before, after, spent):
        # What was stored goes back with the transaction.
        _refuse(rules.reached(after, spent.state, limit))


def _matters(
    limit: str, before: StudyDocument, after: StudyDocument, spent: rules.Spent
) -> bool:
    """Whether a limit that is reached speaks against the change: it was changed to this, or the study is to go on."""
    if before.budget == after.budget:
        return False
    changed = getattr(before.budget, limit) != getattr(after.budget, limit)
    return changed or spent.state in STUDY_STEPS_BACK


def _refuse(faults: Iterable[Fault]) -> None:
    errors = [
        FieldError(pointer=pointer_to(fault.location), code=fault.code, message=fault.message)
        for fault in faults
    ]
    if errors:
        raise Invalid(errors=errors)
