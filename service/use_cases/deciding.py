"""Decisions of a search that pauses trials: one at a time in each study, each on all that is stored."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from service.storage import taking_up
from service.use_cases.context import Context
from trimtab.contract.studies import StudyDocument


@dataclass(frozen=True, slots=True)
class Deciding:
    """A study whose decisions this request holds.

    Attributes:
        connection: stores the decision; what is stored on it appears when the decisions are held no more.
        next_number: the number that a new trial would get.
        is_searched: whether the study may be given trials at all: it is active, and neither its search nor its time is over.
        may_begin: whether the budget has a trial left to begin.
    """

    connection: Connection
    next_number: int
    is_searched: bool
    may_begin: bool


@contextmanager
def alone(context: Context, study_id: int, document: StudyDocument) -> Generator[Deciding]:
    """Let nobody else decide on the study's trials, in any replica, until the block ends and its decision is stored.

    Two that decided at the same moment would each give the one place on the next rung to another trial.

    Raises:
        Locked: another decision takes too long.
        Unavailable: the database does not answer.
    """
    # This process's lock first, so that its requests wait without a connection.
    with (
        context.sampling.deciding(study_id, document),
        context.database.transaction() as connection,
    ):
        yield Deciding(connection, *taking_up.hold_decisions(connection, study_id))
