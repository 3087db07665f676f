"""The live view of a study: a board that redraws itself on a terminal, plain lines anywhere else."""

from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trimtab.cli import tables
from trimtab.cli.failures import printable
from trimtab.cli.watch import SHOWN_TRIALS, Snapshot, count_settled
from trimtab.contract.events import Event
from trimtab.contract.studies import Study
from trimtab.contract.trials import Trial

SETTLED = ("trial_completed", "trial_pruned", "trial_failed", "trial_cancelled")

BAR_WIDTH = 32


def follow(console: Console, snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """Show snapshots until they end, and return the last one; None if there was none."""
    if console.is_terminal:
        return _redraw(console, snapshots)
    last = None
    for last in snapshots:
        for line in lines(last):
            console.print(line, soft_wrap=True)
    return last


def _redraw(console: Console, snapshots: Iterable[Snapshot]) -> Snapshot | None:
    last = None
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for last in snapshots:
            live.update(board(last), refresh=True)
    return last


def board(snapshot: Snapshot) -> RenderableType:
    """Return one snapshot as a panel: progress, best trial, epochs saved, time left, latest trials."""
    study = snapshot.study
    title = Text.assemble((study.name, "bold"), "  ", tables.standing(study))
    return Panel(
        Group(_summary(snapshot), Text(), _latest(snapshot)),
        title=title,
        title_align="left",
        box=box.ROUNDED,
        padding=(1, 2),
    )


def _summary(snapshot: Snapshot) -> RenderableType:
    study = snapshot.study
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("trials", _bar(study))
    grid.add_row("", tables.counts(study))
    if study.refits.total:
        grid.add_row("refits", tables.refits(study.refits))
    grid.add_row("best so far", _best(study))
    grid.add_row("epochs", tables.epochs(study.progress.epochs, study.progress.epochs_saved))
    grid.add_row("time left", time_left(snapshot))
    if study.ended_by:
        grid.add_row("ended by", tables.ENDS[study.ended_by])
    if study.problem:
        grid.add_row("problem", Text(printable(study.problem), style="red"))
    if failure := _last_failure(snapshot):
        grid.add_row("last failure", Text(failure, style="red"))
    return grid


def _last_failure(snapshot: Snapshot) -> str:
    failed = [trial for trial in snapshot.trials.values() if _has_failed(trial)]
    last = max(failed, key=lambda trial: trial.number, default=None)
    return "" if last is None else f"trial {last.number}: {tables.failure(last)}"


def _has_failed(trial: Trial) -> bool:
    return trial.error_kind is not None and trial.state != "cancelled"


def _bar(study: Study) -> RenderableType:
    total = study.document.search_budget.trials
    settled = count_settled(study)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total, settled, width=BAR_WIDTH), f"{settled} of {total}")
    return grid


def _best(study: Study) -> Text:
    if study.best is None:
        return Text("none yet", style="dim")
    return Text.assemble(
        (tables.figure(study.best.objective, study.best.value), "bold cyan"),
        f" {tables.objective(study.best.objective, own=study.document.is_external)}, trial {study.best.number}",
    )


def time_left(snapshot: Snapshot) -> str:
    """Return the time that the search will still take, in words."""
    study = snapshot.study
    if study.state in ("done", "cancelled"):
        return "none: the study is " + study.state
    if study.state == "finalising" and not study.refits.are_over:
        return "the best trials are trained anew on train and validation"
    if study.state == "finalising":
        return "the winner is evaluated on the sealed test split"
    if snapshot.seconds_left is None:
        return "not known yet"
    return f"about {duration(snapshot.seconds_left)}"


def duration(seconds: float) -> str:
    """Return seconds in words: `40 s`, `3 min`, `2 h 5 min`."""
    if seconds < 99:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _latest(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for column in ("trial", "state", "objective", "epochs", "curve"):
        table.add_column(column, no_wrap=True, header_style="dim")
    # The last column takes the width that is left; a long text is cut, so that a trial stays on one line.
    table.add_column("hyperparameters", ratio=1, no_wrap=True, header_style="dim")
    for _, trial in sorted(snapshot.trials.items())[-SHOWN_TRIALS:]:
        table.add_row(*tables.trial_row(trial))
    return table


def lines(snapshot: Snapshot) -> list[str]:
    """Return a line for each event since the last snapshot that is worth one."""
    happened = [_line(snapshot, event) for event in snapshot.events]
    told = [line for line in happened if line]
    if snapshot.study.blocked and snapshot.study.problem:
        told.append(f"study blocked: {printable(snapshot.study.problem)}")
    return told


def _line(snapshot: Snapshot, event: Event) -> str:
    stamp = f"{event.at.astimezone():%H:%M:%S}"
    if event.kind.startswith("study_"):
        told = f"{stamp}  study {event.kind.removeprefix('study_')}"
        problem = event.body.get("problem")
        return f"{told}: {printable(str(problem))}" if problem else told
    if event.kind == "worker_set_aside":
        worker, why = event.body.get("worker"), event.body.get("problem")
        return f"{stamp}  worker {printable(str(worker))} set aside: {printable(str(why))}"
    if event.kind == "refit_settled":
        outcome = event.body.get("outcome", "cancelled")
        place = event.body.get("seed_index")
        further = f" with further seed {place}" if isinstance(place, int) else ""
        return (
            f"{stamp}  refit of trial {event.trial_number}{further} {printable(str(outcome))}"
        )
    if event.kind in SETTLED and event.trial_number is not None:
        what = f"{stamp}  trial {event.trial_number} {event.kind.removeprefix('trial_')}"
        trial = snapshot.trials.get(event.trial_number)
        return what if trial is None else f"{what}{_value(trial)}{_standing(snapshot)}"
    return ""


def _value(trial: Trial) -> str:
    if _has_failed(trial):
        return f"  {tables.failure(trial)}"
    reached = tables.figure(trial.objective, tables.reached(trial))
    chosen = tables.hyperparameters(trial.hyperparameters)
    epochs = len(trial.curve)
    return f"  {reached} after {epochs} epoch{'' if epochs == 1 else 's'}  {chosen}"


def _standing(snapshot: Snapshot) -> str:
    best = snapshot.study.best
    reached = "" if best is None else f"best {tables.figure(best.objective, best.value)}, "
    return f"  [{reached}time left: {time_left(snapshot)}]"
