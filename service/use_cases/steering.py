"""A person steers one trial: stops it, or has it tried again."""

from service.domain import enqueuing as rules
from service.domain.editing import Spent
from service.domain.lifecycle import TRIAL_STEPS_BACK, is_over
from service.storage import artifacts, editing, steering, studies, taking_up
from service.use_cases import ending
from service.use_cases.context import Context
from trimtab.contract.problems import (
    BudgetSpent,
    StudyNotActive,
    StudyNotFound,
    TrialNotActive,
    TrialNotFailed,
    TrialNotFound,
)
from trimtab.contract.reasons import Reason

PERSON = "person"
"""The rule of a reason: a person decided."""
ACTIVE = ("active", "paused")


def stop(context: Context, name: str, number: int) -> None:
    """End one trial: one that runs is pruned at its next verdict, with its curve; one that waits is cancelled.

    One that the search has paused is pruned at once.

    Raises:
        StudyNotFound, TrialNotFound: there is no such study, or no such trial in it.
        TrialNotActive: it has ended, and not because a person stopped it.
    """
    with context.database.transaction() as connection:
        row = studies.by_name(connection, name)
        if row is None:
            raise StudyNotFound
        # Its study's row is not held: a claim holds the trial first, and then its study.
        trial = steering.lock(connection, row.study_id, number)
        if trial is None:
            raise TrialNotFound
        if (trial.reason or {}).get("rule") == PERSON and is_over(trial.state):
            return
        if is_over(trial.state):
            raise TrialNotActive(
                f"Trial {number} is {trial.state}: there is nothing to stop.", state=trial.state
            )
        text = f"A person stopped it after {trial.epochs} epoch{'s' * (trial.epochs != 1)}."
        reason = Reason(rule=PERSON, text=text, epoch=trial.epochs)
        steering.give_reason(connection, trial.trial_id, reason)
        if trial.state == "running":
            steering.ask_to_stop(connection, trial.trial_id)
        elif trial.state == "paused" and trial.paused_by_search:
            taking_up.prune_paused(connection, row.study_id, trial.trial_id)
        else:
            studies.cancel_unleased(connection, row.study_id, trial.trial_id)
    context.sampling.touch(row.study_id)
    ending.follow(context, name)


def retry(context: Context, name: str, number: int) -> None:
    """Queue a failed trial again, whatever it failed by; one that waits or runs already is left alone.

    Raises:
        StudyNotFound, TrialNotFound: there is no such study, or no such trial in it.
        StudyNotActive, BudgetSpent: its study trains nothing more.
        TrialNotFailed: it has ended otherwise.
    """
    with context.database.transaction() as connection:
        locked, row = studies.lock(connection, name), studies.by_name(connection, name)
        if locked is None or row is None:
            raise StudyNotFound
        trial = steering.lock(connection, row.study_id, number)
        if trial is None:
            raise TrialNotFound
        if not is_over(trial.state):
            return
        if trial.state not in TRIAL_STEPS_BACK:
            raise TrialNotFailed(
                f"Trial {number} is {trial.state}: only one that has failed is tried again.",
                state=trial.state,
            )
        _refuse_if_over(context, row, editing.spent(connection, row.study_id))
        missing = artifacts.missing(connection, trial.states) if trial.states else []
        steering.retry(connection, trial.trial_id, missing)
    context.sampling.touch(row.study_id)


def _refuse_if_over(context: Context, row: studies.StudyRow, spent: Spent) -> None:
    if spent.state not in ACTIVE:
        more = f": `trimtab study edit {row.name}` with more budget takes it up again first"
        raise StudyNotActive(
            f"The study is {spent.state}, and trains nothing more{more * (spent.state == 'done')}.",
            state=spent.state,
        )
    document = context.documents.of(row.study_id, row.document)
    if (why := rules.time_over(document, spent)) is not None:
        raise BudgetSpent(why)
