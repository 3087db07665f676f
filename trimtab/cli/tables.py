"""Answers as tables, with the most important row first."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trimtab.cli import costs, reasons, record_table, report
from trimtab.cli.failures import printable
from trimtab.cli.figures import figure, measured, table, words
from trimtab.contract.conditions import condition, told
from trimtab.contract.demand import Needs
from trimtab.contract.edits import SpaceEdit
from trimtab.contract.finish import Refits
from trimtab.contract.metrics import direction_of
from trimtab.contract.records import Probe
from trimtab.contract.search_space import Scalar
from trimtab.contract.studies import (
    Best,
    BestTrial,
    EndedBy,
    Study,
    StudyDocument,
    StudyPage,
    StudySummary,
)
from trimtab.contract.trials import IntermediateValue, Trial, TrialPage

BLOCKS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 20
TOLD_OF_EPOCHS = ("train_loss", "validation_loss", "validation_adaptation_weight")

ENDS: Mapping[EndedBy, str] = {
    "trials": "its budget of trials",
    "wall_time": "its wall time",
    "exhausted": "the last point of its space",
    "stopped": "being stopped",
    "cancelled": "being cancelled",
    "device_seconds": "its seconds of devices",
    "epochs": "its budget of epochs",
    "target_value": "a trial that reached its target value",
    "no_progress": "trials that brought nothing better",
}
STYLES: Mapping[str, str] = {
    "active": "green",
    "running": "green",
    "completed": "cyan",
    "done": "bold cyan",
    "pruned": "yellow",
    "paused": "yellow",
    "stopping": "yellow",
    "finalising": "yellow",
    "queued": "dim",
    "failed": "red",
    "cancelled": "red",
    "deleting": "red",
}


def studies(page: StudyPage) -> RenderableType:
    """Return a page of studies as a table."""
    rows = table("study", "state", "trials", "best", "created")
    for study in page.studies:
        rows.add_row(
            study.name,
            standing(study),
            f"{study.trials_created}/{study.trials}{f' +{study.refits}' if study.refits else ''}",
            measured(study.objective, study.best_value),
            f"{study.created_at:%Y-%m-%d %H:%M}",
        )
    return _more(rows, page.next_page_token)


def study(answer: Study) -> RenderableType:
    """Return one study: its progress and its best trial."""
    progress = answer.progress
    rows = [
        ("state", standing(answer)),
        (
            "trials",
            Text(f"{answer.trials_created} of {answer.document.search_budget.trials} started"),
        ),
        ("", Text(counts(answer))),
        *_parallel_rows(answer.document),
        *([("refits", Text(refits(answer.refits)))] if answer.refits.total else []),
        ("epochs", Text(epochs(progress.epochs, progress.epochs_saved))),
        *_probe_rows(answer.probe),
        *_recipe_rows(answer.document),
        *_best_rows(
            answer.best,
            own=answer.document.is_external,
            bounded=bool(answer.document.constraints),
        ),
        *report.brief(answer.final),
        *report.earlier(answer.earlier_finals),
    ]
    if answer.artifact_bytes:
        rows.append(
            ("disk", Text(f"{answer.artifact_bytes / 1e6:.1f} MB of checkpoints and model"))
        )
    if answer.ended_by:
        rows.append(("ended by", Text(ENDS[answer.ended_by])))
    if answer.data is not None:
        rows.append(("data sha256", Text(answer.data.data_sha256)))
    rows += _problem_rows(answer.problem)
    rows += [
        ("set aside", Text(printable(f"worker {one.worker}: {one.problem}"), style="yellow"))
        for one in answer.set_aside
    ]
    return _facts(answer.name, rows)


def _parallel_rows(document: StudyDocument) -> list[tuple[str, Text]]:
    most, needs = document.parallel, document.needs
    return [
        *([("parallel", Text(f"at most {most} at a time"))] if most else []),
        *([("needs", Text(_needed(needs)))] if needs else []),
    ]


def _needed(needs: Needs) -> str:
    count, memory = needs.devices_per_trial, needs.gpu_memory_gb
    many = f"{count} devices for each trial" if count > 1 else "one device for each trial"
    if memory is None:
        return many
    return f"a GPU with {memory:g} GB" + (f", {many}" if count > 1 else "")


def _changed(edits: Sequence[SpaceEdit]) -> str:
    last = edits[-1]
    times = "once" if len(edits) == 1 else f"{len(edits)} times"
    return f"changed {times}, last after {last.trials} trials; {last.outside} of those lie outside, and the sampler no longer sees them"


def _recipe_rows(document: StudyDocument) -> list[tuple[str, Text]]:
    """Return what is searched, and what the document fixes: by its person, and by the service."""
    searched = ", ".join(
        f"{name} (with {told(condition(one))})" if one.when else name
        for name, one in document.space.items()
    )
    own = {name: one for name, one in document.fixed.items() if name not in document.completed}
    filled_in = {name: document.fixed[name] for name in document.completed}
    rows = [("searched", f"{searched} (auto)" if document.auto_space else searched)]
    if document.space_edits:
        rows.append(("", _changed(document.space_edits)))
    rows += [
        (label, hyperparameters(values))
        for label, values in (("fixed", own), ("known recipe", filled_in))
        if values
    ]
    return [(label, Text(printable(told))) for label, told in rows]


def best(answer: Best) -> RenderableType:
    """Return the winner and its scores, what is handed over, and how far the numbers can be trusted."""
    by_own_loop = answer.recipe is None
    rows = [("state", state(answer.state)), *_best_rows(answer.trial, own=by_own_loop)]
    rows += _model_rows(answer)
    rows += costs.constraints(answer.constraints)
    finals = [*report.full(answer.final), *report.earlier(answer.earlier_finals)]
    told = [*rows, *finals, *_problem_rows(answer.problem)]
    return Group(_facts(answer.study, told), *report.tables_of(answer.final))


def _model_rows(answer: Best) -> list[tuple[str, Text]]:
    if answer.model is None:
        return []
    told = f"{answer.model.backbone}, weights {answer.model.weights}"
    return [("pretrained model", Text(printable(told)))]


def trials(page: TrialPage) -> RenderableType:
    """Return a page of trials as a table."""
    rows = table("trial", "state", "objective", "epochs", "curve", "hyperparameters")
    for each in page.trials:
        rows.add_row(*trial_row(each))
    return _more(rows, page.next_page_token)


def trial(answer: Trial) -> RenderableType:
    """Return one trial with its curve and its attempts."""
    rows = [
        ("state", state(answer.state)),
        (f"objective {words(answer.objective)}", Text(figure(answer.objective, answer.value))),
        *costs.of_trial(answer),
        ("curve", Text(curve(answer.curve))),
        *((f"  epoch {point.step}", Text(epoch(answer, point))) for point in answer.curve),
        *((name, Text(scalar(value))) for name, value in in_order(answer.hyperparameters)),
        *([("proposed by", Text(answer.proposed_by))] if answer.proposed_by else []),
        ("crashes", Text(str(answer.crashes))),
        *reasons.rows(answer.objective, answer.reason),
    ]
    if answer.error_kind:
        rows.append(("failure", Text(failure(answer), style="red")))
    for attempt in answer.attempts:
        outcome = attempt.outcome or "running"
        rows.append((f"attempt {attempt.fence}", Text(f"{outcome}, by {attempt.worker}")))
    if answer.record is not None:
        rows += record_table.rows_of(answer.record)
    return _facts(f"trial {answer.number}", rows)


def epoch(trial: Trial, point: IntermediateValue) -> str:
    """Return the objective after an epoch and the losses beside it; `-o json` has all metrics."""
    measured = trial.metrics.get(point.step, {})
    told = [f"{name}={measured[name]:.4g}" for name in TOLD_OF_EPOCHS if name in measured]
    return "  ".join([figure(trial.objective, point.value), *told])


def trial_row(trial: Trial) -> tuple[RenderableType, ...]:
    """Return the cells of one trial: number, state, value, epochs, curve, hyperparameters."""
    return (
        str(trial.number),
        state(trial.state),
        figure(trial.objective, reached(trial)),
        str(len(trial.curve)),
        curve(trial.curve),
        Text(hyperparameters(trial.hyperparameters), style="dim"),
    )


def reached(trial: Trial) -> float | None:
    """Return the objective value, or the best intermediate value of a trial that has none."""
    if trial.value is not None:
        return trial.value
    direction = trial.direction or direction_of(trial.objective)
    best = max if direction == "maximize" else min
    return best((p.value for p in trial.curve if p.value is not None), default=None)


def failure(trial: Trial) -> str:
    """Return why a trial failed: the kind, then the message if there is one.

    Of a trial that was given up, the message says how often it failed, and the kind of the last time.
    """
    kind = None if trial.error_kind == "poison" and trial.error_message else trial.error_kind
    return printable(": ".join(filter(None, (kind, trial.error_message))))


def state(name: str) -> Text:
    """Return a state in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def standing(study: Study | StudySummary) -> Text:
    """Return the state of a study, and whether it is blocked."""
    told = state(study.state)
    return told.append(", blocked", style="red") if study.blocked else told


def scalar(value: Scalar) -> str:
    """Return the value of a hyperparameter as text, with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def hyperparameters(values: Mapping[str, Scalar]) -> str:
    """Return a configuration on one line."""
    return "  ".join(f"{name}={scalar(value)}" for name, value in in_order(values))


def in_order(values: Mapping[str, Scalar]) -> list[tuple[str, Scalar]]:
    """Return the hyperparameters with the learning rate first, so that it stays visible in a line that is cut."""
    return sorted(values.items(), key=lambda item: item[0] != "learning_rate")


def counts(study: Study) -> str:
    """Return the number of trials in each state that has any, in words."""
    names = ("running", "queued", "paused", "completed", "pruned", "failed", "cancelled")
    found = [(getattr(study.progress, name), name) for name in names]
    return ", ".join(f"{count} {name}" for count, name in found if count) or "none yet"


def refits(progress: Refits) -> str:
    """Return how far the trainings on train and validation together are, in words."""
    rest = [(progress.running, "running"), (progress.failed, "failed")]
    told = ", ".join(f"{count} {name}" for count, name in rest if count)
    done = f"{progress.completed} of {progress.total} trained on train and validation"
    return f"{done}, {told}" if told else done


def epochs(trained: int, saved: int) -> str:
    """Return the epochs that were trained, and those that stopping early saved, in words."""
    if not saved:
        return f"{trained} trained"
    share = saved / (trained + saved)
    return f"{trained} trained, {saved} saved by stopping early ({share:.0%})"


def curve(points: tuple[IntermediateValue, ...]) -> str:
    """Return a learning curve on one line, from its own lowest value to its highest; `x` stands for a non-finite value.

    A curve with more than `CURVE_WIDTH` points is drawn by this many of them, evenly spaced, the first and last included.
    """
    steps = min(len(points), CURVE_WIDTH)
    drawn = [points[n * (len(points) - 1) // max(1, steps - 1)].value for n in range(steps)]
    values = [value for value in drawn if value is not None]
    if not values:
        return "x" * len(drawn)
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(
        "x" if value is None else BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))]
        for value in drawn
    )


def objective(metric: str, *, own: bool) -> str:
    """Return what the best trial is the best in.

    Args:
        metric: The study's objective.
        own: Whether a person's own loop measured it: on what, only the loop knows.
    """
    return f"{'objective' if own else 'validation'} {words(metric)}"


def _best_rows(
    best: BestTrial | None, *, own: bool, bounded: bool = False
) -> list[tuple[str, Text]]:
    if best is None:
        feasible = " that keeps the constraints" if bounded else ""
        return [("best", Text(f"no completed trial{feasible} yet", style="dim"))]
    return [
        ("best", Text(f"trial {best.number}")),
        (
            objective(best.objective, own=own),
            Text(figure(best.objective, best.value), style="bold"),
        ),
        *((f"  {name}", Text(scalar(value))) for name, value in in_order(best.hyperparameters)),
        *costs.rows(best.measured),
    ]


def _probe_rows(probe: Probe | None) -> list[tuple[str, Text]]:
    if probe is None or probe.epoch_s is None:
        return []
    told = f"{probe.epoch_s:.3g} s the first"
    if probe.memory_bytes is not None:
        told += f", in {probe.memory_bytes / 1e9:.2f} GB of the device's memory"
    return [("", Text(told))]


def _problem_rows(problem: str | None) -> list[tuple[str, Text]]:
    return [("problem", Text(printable(problem), style="red"))] if problem else []


def _facts(title: str, rows: list[tuple[str, Text]]) -> RenderableType:
    """Return a line for each fact; the terminal wraps long lines, so that a hash can be copied whole."""
    width = max(len(name) for name, _ in rows) + 2
    indent = "\n" + " " * width
    lines = [
        Text.assemble((name.ljust(width), "dim"), Text(indent).join(value.split("\n")))
        for name, value in rows
    ]
    return Group(Text(title, style="bold"), *lines)


def _more(table: Table, token: str | None) -> RenderableType:
    if token is None:
        return table
    return Group(table, Text(f"There are more: add --page-token {token}", style="dim"))
