"""Why a study's search did what it did: `trimtab study explain`."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trimtab.cli import reasons, tables, transferred
from trimtab.cli.failures import printable
from trimtab.cli.figures import figure, table, words
from trimtab.cli.paging import every_trial
from trimtab.cli.transferred import Transferred
from trimtab.client import Client
from trimtab.contract.message import Message
from trimtab.contract.metrics import Direction
from trimtab.contract.pruners import AnyPruner
from trimtab.contract.reasons import AUDIT, Reason
from trimtab.contract.search import SamplerName
from trimtab.contract.studies import StudyState
from trimtab.contract.transfer import Transfer
from trimtab.contract.trials import Trial, TrialState

GOOD_SHARE = 10
"""One in this many completed trials, and at least one, counts as good: a stop or a pause of one of these is wrong."""
UNTOLD = "not told"
"""Stands for the rule or the origin of a trial where none was stored: a grid's points have none."""


class Decision(Message):
    """The trials in one state whose last decision was made by one rule."""

    rule: str
    state: TrialState
    trials: int


class Audit(Message):
    """The trials that ran on for the audit, and how they ended."""

    audited: int
    completed: int
    """The audited trials that have completed."""
    wrong: int
    """The audited trials among the best tenth of all completed ones: it would have been wrong to stop or pause these."""


class ExplainedTrial(Message):
    """One trial: how far it came, and why."""

    number: int
    state: TrialState
    proposed_by: str | None
    epochs: int
    value: float | None
    """The objective value, or the best intermediate value of a trial that has none."""
    reason: Reason | None


class Explanation(Message):
    """What proposed a study's trials, what stopped or paused these, and why."""

    study: str
    state: StudyState
    metric: str
    sampler: SamplerName
    pruner: AnyPruner
    auto_reason: str | None
    """Why the service chose this sampler and pruner in the place of `auto`; null: a person did."""
    origins: Mapping[str, int]
    """The number of trials by what their hyperparameters come from."""
    transfer: Transfer
    """The earlier studies that the search was to begin with, as the document says."""
    transferred: tuple[Transferred, ...] | None
    """Those that were looked at, the nearest first; null before the first trial has told its data."""
    decisions: tuple[Decision, ...]
    epochs: int
    """Epochs that were trained."""
    epochs_saved: int
    """Epochs that pruned trials did not train, against their recipe."""
    audit: Audit | None
    """Null where no trial ran on for the audit."""
    trials: tuple[ExplainedTrial, ...]


def explain(client: Client, name: str) -> Explanation:
    """Read a study and all its trials.

    Raises:
        problems.Problem: the service refuses, or does not answer.
    """
    study = client.study(name)
    trials = list(every_trial(client, name))
    task, search = study.document.task, study.document.search
    return Explanation(
        study=name,
        state=study.state,
        metric=task.metric,
        sampler=search.sampler,
        pruner=search.pruner,
        auto_reason=search.auto_reason,
        origins=Counter(trial.proposed_by or UNTOLD for trial in trials),
        transfer=search.transfer,
        transferred=transferred.told(study.document, trials),
        decisions=decisions(trials),
        epochs=study.progress.epochs,
        epochs_saved=study.progress.epochs_saved,
        audit=audit(trials, task.direction),
        trials=tuple(map(_explained, trials)),
    )


def decisions(trials: Iterable[Trial]) -> tuple[Decision, ...]:
    """Count the trials that a rule decided on by that rule and their state, the most frequent first.

    A pruned trial without a reason is counted too: releases before stored none.
    """
    counts: Counter[tuple[str, TrialState]] = Counter(
        (trial.reason.rule if trial.reason else UNTOLD, trial.state)
        for trial in trials
        if trial.reason is not None or trial.state == "pruned"
    )
    return tuple(
        Decision(rule=rule, state=state, trials=count)
        for (rule, state), count in counts.most_common()
    )


def audit(trials: Sequence[Trial], direction: Direction) -> Audit | None:
    """Tell how many audited trials ended among the best tenth of the completed ones; None where none was audited.

    A trial that ties with the last of that tenth counts among the best.
    """
    audited = [trial for trial in trials if trial.reason and trial.reason.rule == AUDIT]
    if not audited:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    ended = sorted(
        (sign * trial.value for trial in trials if trial.value is not None), reverse=True
    )
    bar = ended[math.ceil(len(ended) / GOOD_SHARE) - 1] if ended else math.inf
    values = [sign * trial.value for trial in audited if trial.value is not None]
    return Audit(
        audited=len(audited),
        completed=len(values),
        wrong=sum(value >= bar for value in values),
    )


def view(answer: Explanation) -> RenderableType:
    """Return the summary, then a line for each trial."""
    lines = [Text(answer.study, style="bold"), *map(Text, _summary(answer))]
    return Group(*lines, _table(answer))


def _summary(answer: Explanation) -> list[str]:
    pruner = answer.pruner.model_dump(exclude={"kind"})
    parameters = ", ".join(
        f"{name} {value}" for name, value in pruner.items() if value is not None
    )
    told = [
        f"sampler {answer.sampler}, pruner {answer.pruner.kind}"
        + (f" ({parameters})" if parameters else ""),
        *([f"chosen by auto: {answer.auto_reason}"] if answer.auto_reason else []),
        "proposed by: " + (_counts(answer.origins) or "nothing yet"),
        "epochs: " + tables.epochs(answer.epochs, answer.epochs_saved),
    ]
    told += transferred.lines(answer.metric, answer.transferred)
    told += [f"{one.rule}: {one.trials} {one.state}" for one in answer.decisions]
    return [printable(line) for line in (*told, *_audit_lines(answer.audit))]


def _audit_lines(found: Audit | None) -> list[str]:
    if found is None:
        return []
    ran = "1 trial" if found.audited == 1 else f"{found.audited} trials"
    return [
        f"audit: {ran} ran on where the search would have stopped or paused it, {found.completed} completed, and "
        f"{found.wrong} ended among the best tenth of all that completed: that often the search would have been wrong"
    ]


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.items())


def _table(answer: Explanation) -> Table:
    rows = table("trial", "state", "epochs", words(answer.metric), "expected", "why")
    for trial in answer.trials:
        rows.add_row(
            str(trial.number),
            tables.state(trial.state),
            str(trial.epochs),
            figure(answer.metric, trial.value),
            reasons.expected(answer.metric, trial.reason),
            Text(printable(trial.reason.text) if trial.reason else ""),
        )
    return rows


def _explained(trial: Trial) -> ExplainedTrial:
    return ExplainedTrial(
        number=trial.number,
        state=trial.state,
        proposed_by=trial.proposed_by,
        epochs=len(trial.curve),
        value=tables.reached(trial),
        reason=trial.reason,
    )
