"""The best compromises of a study with two objectives."""

from service.domain import pareto as rules
from service.storage import pareto, studies
from service.use_cases.context import Context
from trimtab.contract.objectives import Objective
from trimtab.contract.pareto import FrontTrial, Pareto
from trimtab.contract.problems import OneObjective, StudyNotFound


def read(context: Context, name: str) -> Pareto:
    """The trials that no other one beats in both objectives, so far.

    Raises:
        StudyNotFound: there is no study of this name.
        OneObjective: it has no second objective.
    """
    with context.database.statements() as connection:
        row = studies.by_name(connection, name)
        if row is None:
            raise StudyNotFound
        document = context.documents.of(row.study_id, row.document)
        if document.second is None or document.second_direction is None:
            raise OneObjective
        rows = pareto.compromises(connection, row.study_id)
    metrics = document.task.metric, document.second.metric
    directions = document.task.direction, document.second_direction
    places = rules.front([(one.value, one.second_value) for one in rows], directions)
    return Pareto(
        study=name,
        state=row.state,
        objectives=tuple(
            Objective(metric=metric, direction=direction)
            for metric, direction in zip(metrics, directions, strict=True)
        ),
        trials=tuple(_shape(rows[place], metrics) for place in places),
    )


def _shape(row: pareto.CompromiseRow, metrics: tuple[str, str]) -> FrontTrial:
    return FrontTrial(
        number=row.number,
        values=dict(zip(metrics, (row.value, row.second_value), strict=True)),
        hyperparameters=row.hyperparameters,
        measured=row.measured,
    )
