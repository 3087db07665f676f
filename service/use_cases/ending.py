"""A study's end: its search is over, its best trials are trained anew, the winner is evaluated."""

from sqlalchemy import Connection

from service.domain import budget
from service.storage import final_scores, refits, studies, taking_up, trials
from service.use_cases import constraints
from service.use_cases.context import Context


def follow(context: Context, name: str) -> None:
    """Bring the study to what follows from what was spent and done; nothing happens where nothing does."""
    with context.database.statements() as connection:
        if not studies.to_follow(connection, name):
            return
    with context.database.transaction() as connection:
        locked = studies.lock(connection, name)
        if locked is not None and budget.paused_are_unwanted(locked.spending):
            taking_up.prune_paused(connection, locked.study_id)
            locked = studies.lock(connection, name)
        if locked is not None and budget.begun_trials_are_unwanted(locked.spending):
            studies.cancel_unleased(connection, locked.study_id)
            locked = studies.lock(connection, name)
        elif locked is not None and locked.spending.state in ("active", "stopping"):
            # Given back by a holder that was told to pause, just when the study was taken up again.
            studies.queue_paused(connection, locked.study_id)
        if locked is not None:
            _follow(connection, locked)


def _follow(connection: Connection, locked: studies.LockedStudy) -> None:
    state = budget.next_state(locked.spending)
    if budget.final_is_due(locked.spending):
        final_scores.queue(connection, locked.study_id, locked.direction)
    elif state == locked.spending.state:
        return
    elif state == "finalising":
        _finalise(connection, locked)
    else:
        _end(connection, locked)


def _finalise(connection: Connection, locked: studies.LockedStudy) -> None:
    ended_by = budget.ended_by(locked.spending)
    studies.set_state(
        connection, locked.study_id, "finalising", "study_finalising", ended_by=ended_by
    )
    if locked.refits:
        refits.queue(connection, locked.study_id, locked.direction)
    else:
        final_scores.queue(connection, locked.study_id, locked.direction)


def _end(connection: Connection, locked: studies.LockedStudy) -> None:
    problem = _why_no_model(connection, locked)
    # Of one that was finalising it is told already.
    ended_by = None if locked.spending.final_failed else budget.ended_by(locked.spending)
    studies.set_state(
        connection, locked.study_id, "done", "study_done", problem=problem, ended_by=ended_by
    )


def _why_no_model(connection: Connection, locked: studies.LockedStudy) -> str | None:
    """What a person is told of a study that ends without a model, with the error that is to blame.

    An external study has none of ours in any case: there a completed trial is all that was asked for.
    """
    if locked.spending.is_external and locked.spending.completed:
        return None
    if locked.spending.final_failed:
        failure = trials.last_failure(connection, locked.study_id, "final")
        if failure is None:
            return "The final evaluation was cancelled, so there is no model."
        return f"The final evaluation failed, so there is no model: {failure.in_words}"
    unkept = constraints.none_feasible(constraints.violated(connection, locked.study_id))
    if unkept is not None:
        return f"There is no model. {unkept}"
    failure = trials.last_failure(connection, locked.study_id, "trial")
    told = "" if failure is None else f" Trial {failure.number}: {failure.in_words}"
    return f"No trial completed, so there is no model.{told}"
