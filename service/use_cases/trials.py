"""Trials as people read them."""

from collections.abc import Mapping

from service.storage import records, studies, trials
from service.use_cases.context import Context
from trimtab.contract.problems import StudyNotFound, TrialNotFound
from trimtab.contract.reasons import Reason
from trimtab.contract.records import TrialRecord
from trimtab.contract.trials import Attempt, IntermediateValue, Trial, TrialPage, TrialState


def page(
    context: Context, name: str, *, after: int | None, size: int, state: TrialState | None
) -> TrialPage:
    """Trials in the order of their numbers.

    Raises:
        StudyNotFound: there is no study of this name.
    """
    with context.database.statements() as connection:
        study = studies.by_name(connection, name)
        if study is None:
            raise StudyNotFound
        rows = trials.page(
            connection,
            study.study_id,
            after=-1 if after is None else after,
            size=size,
            state=state,
        )
    return TrialPage(trials=tuple(_shape(study, row, [], {}) for row in rows))


def read(context: Context, name: str, number: int) -> Trial:
    """One trial with its attempts, its record, and all that was measured after its epochs.

    Raises:
        StudyNotFound, TrialNotFound: there is no such study, or no such trial in it.
    """
    with context.database.statements() as connection:
        study = studies.by_name(connection, name)
        if study is None:
            raise StudyNotFound
        row = trials.read(connection, study.study_id, number)
        if row is None:
            raise TrialNotFound
        return _shape(
            study,
            row,
            trials.attempts(connection, row.trial_id),
            trials.metrics(connection, row.trial_id),
            records.of_trial(connection, row.trial_id),
        )


def _violations(study: studies.StudyRow, row: trials.TrialRow) -> dict[str, float]:
    """By how much of the bound a trial violates each constraint, by its metric; of one not trained, those that are known."""
    metrics = [one["metric"] for one in study.constraints or ()]
    found = dict(zip(metrics, row.violations or (), strict=False))
    if row.state == "completed":
        return found
    return {metric: share for metric, share in found.items() if metric in (row.measured or {})}


def _shape(
    study: studies.StudyRow,
    row: trials.TrialRow,
    attempts: list[trials.AttemptRow],
    metrics: Mapping[int, Mapping[str, float]],
    record: TrialRecord | None = None,
) -> Trial:
    return Trial(
        number=row.number,
        state=row.state,
        hyperparameters=row.hyperparameters,
        proposed_by=row.proposed_by,
        objective=study.objective,
        direction=study.direction,
        value=row.value,
        curve=tuple(IntermediateValue(step=step, value=value) for step, value in row.curve),
        metrics=metrics,
        measured=row.measured or {},
        violations=_violations(study, row),
        feasible=row.feasible if row.state == "completed" or row.violations else None,
        second_value=row.second_value,
        runs_until=row.runs_until,
        paused_by_search=row.paused_by_search,
        reason=None if row.reason is None else Reason.model_validate(row.reason),
        crashes=row.crashes,
        error_kind=row.error_kind,
        error_message=row.error_message,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        attempts=tuple(
            Attempt(
                fence=attempt.fence,
                worker=attempt.worker,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                outcome=attempt.outcome,
            )
            for attempt in attempts
        ),
        record=record,
    )
