"""The validation values of a study's trials by the number of labels that they learned from."""

from collections import defaultdict
from statistics import median

from rich.console import RenderableType

from trimtab.cli import tables
from trimtab.cli.paging import every_trial
from trimtab.client import Client
from trimtab.contract.message import Message
from trimtab.contract.trials import Trial


class LabelRow(Message):
    """The completed trials that learned from the same number of labels."""

    shots: int | None
    """The number of labels of each class; null for all that there are."""
    labels: int | None
    """The number of labels in all, from the record of one of the trials."""
    trials: int
    best: float
    median: float


class LabelReport(Message):
    """A study's validation values by the number of labels, the fewest first."""

    study: str
    metric: str
    rows: tuple[LabelRow, ...]


def report(client: Client, name: str) -> LabelReport:
    """Read the completed trials of a study, and one trial's record for each number of labels.

    Raises:
        problems.Problem: the service refuses, or does not answer.
    """
    document = client.study(name).document
    groups: defaultdict[int | None, list[Trial]] = defaultdict(list)
    for trial in every_trial(client, name, "completed"):
        shots = trial.hyperparameters.get("shots", document.fixed.get("shots"))
        groups[shots if isinstance(shots, int) else None].append(trial)
    best = max if document.task.direction == "maximize" else min
    rows: list[LabelRow] = []
    for shots in sorted(groups, key=lambda shots: (shots is None, shots)):
        values = [trial.value for trial in groups[shots] if trial.value is not None]
        record = client.trial(name, groups[shots][0].number).record
        rows.append(
            LabelRow(
                shots=shots,
                labels=None if record is None else record.labels_used,
                trials=len(values),
                best=best(values),
                median=median(values),
            )
        )
    return LabelReport(study=name, metric=document.task.metric, rows=tuple(rows))


def view(answer: LabelReport) -> RenderableType:
    """Return a table with a row for each number of labels."""
    words = tables.words(answer.metric)
    columns = ("shots", "labels", "trials", f"best {words}", f"median {words}")
    table = tables.table(*columns)
    for row in answer.rows:
        table.add_row(
            "all" if row.shots is None else str(row.shots),
            "-" if row.labels is None else str(row.labels),
            str(row.trials),
            tables.figure(answer.metric, row.best),
            tables.figure(answer.metric, row.median),
        )
    return table
