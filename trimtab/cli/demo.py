"""`trimtab demo`: a search on real data, from the start of the service to a tested model."""

import itertools
import json
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trimtab.cli import board, tables, terminal, up, watch
from trimtab.cli.family import Address, Asked, Family
from trimtab.cli.handover import environment
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.final_report import FinalScores
from trimtab.contract.studies import BestTrial, Study, StudyDocument

TRIALS = 16
EPOCHS = 10
SEARCH_S = 120.0
"""Seconds after which the search ends, for slow machines."""

THREADS = 1
"""In a network this small, threads mostly wait for each other: on two busy cores, one took half the time of two."""

PREDICTED_INDEX = 7


@dataclass(frozen=True)
class Figures:
    """The figures that `--json` prints: accuracies in [0, 1], and the path of the saved model."""

    trials: int
    validation_accuracy: float
    test_accuracy_before: float | None
    test_accuracy: float
    seconds: float
    model: str


def document(name: str) -> StudyDocument:
    """Return the demo's study: it adapts glyphnet, which has seen printed glyphs only, to handwritten digits."""
    return StudyDocument.model_validate(
        {
            "name": name,
            "task": {
                "kind": "classification",
                "dataset": {"kind": "builtin", "name": "digits"},
            },
            "model": {"backbone": "glyphnet", "weights": "default"},
            "space": {
                "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
                "weight_decay": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
                "batch_size": {"kind": "choices", "choices": [16, 32, 64, 128]},
                "frozen_stages": {"kind": "int", "low": 0, "high": 3},
            },
            "fixed": {"epochs": EPOCHS},
            "search": {"sampler": "tpe", "pruner": {"kind": "median", "startup_trials": 4}},
            "budget": {"trials": TRIALS, "wall_time_s": SEARCH_S},
            "lease_ttl_s": 20.0,
        }
    )


def demo(
    context: typer.Context,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON: the figures.")
    ] = False,
    port: up.Port = up.DEFAULT_PORT,
    data_dir: up.DataDir = up.DEFAULT_DATA_DIR,
    workers: up.Workers = None,
) -> None:
    """Fine-tune a small pretrained network for handwritten digits, live, in about two minutes."""
    begun = time.monotonic()
    here = terminal.of(context)
    screen = here.err if as_json else here.out
    family = Family(data_dir, environment(here.token), here.err.print)
    figures: Figures | None = None
    try:
        with family.until_asked():
            address = up.start(family, here, "127.0.0.1", port)
            up.start_workers(family, address, workers, threads=THREADS)
            with (
                Client(address.url, here.token, retry_for_s=terminal.FOLLOWS_S) as client,
                family.explaining(),
            ):
                study = _search(family, client, screen)
                winner = find_winner(client, study, data_dir)
            figures = winner.figures(time.monotonic() - begun)
            screen.print(result(winner, figures))
            terminal.print_facts(screen, what_next(winner.model, address, data_dir, keep=keep))
            if keep:
                _write(here, figures, wanted=as_json)
                family.wait()
    except Asked as asked:
        # With --keep, Ctrl-C after the result is how it is meant to end.
        raise typer.Exit(0 if figures else asked.exit_code) from None
    _write(here, figures, wanted=as_json)


@dataclass(frozen=True)
class Winner:
    """The result of the study, and the path of its saved model."""

    study: Study
    best: BestTrial
    final: FinalScores
    model: Path

    def figures(self, seconds: float) -> Figures:
        """Return the figures of a demo that took this many seconds."""
        return Figures(
            trials=self.study.trials_created,
            validation_accuracy=self.best.value,
            test_accuracy_before=self.final.test_value_before,
            test_accuracy=self.final.test_value,
            seconds=round(seconds, 1),
            model=str(self.model),
        )


def _search(family: Family, client: Client, screen: Console) -> Study:
    study = submit(client)
    what = "glyphnet, pretrained on printed glyphs, is fine-tuned on 1,797 handwritten digits"
    screen.print(f"Study {study.name}: {what}.", soft_wrap=True)
    board.follow(screen, watch.follow(client, study.name, check=family.check))
    return client.study(study.name)


def submit(client: Client) -> Study:
    """Create the study under the first free name: digits, digits-2, ..."""
    for number in itertools.count(1):
        try:
            return client.create_study(
                document("digits" if number == 1 else f"digits-{number}")
            )
        except problems.StudyExists:
            continue
    raise AssertionError("there is always a next number")


def find_winner(client: Client, study: Study, data_dir: Path) -> Winner:
    """Save the model of a study that is done, and return its winner.

    Raises:
        problems.NoModel: the study has no model; the detail says why.
    """
    if study.best is None or study.final is None:
        raise problems.NoModel(_why_without_model(client, study))
    model = data_dir / "models" / f"{study.name}.safetensors"
    return Winner(study, study.best, study.final, client.download_model(study.name, model))


def _why_without_model(client: Client, study: Study) -> str:
    what = f"Study {study.name} is {study.state} without a model: {study.problem or 'no reason given'}"
    failed = client.trials(study.name, state="failed", page_size=1).trials
    return what + "".join(f"\ntrial {t.number}: {tables.failure(t)}" for t in failed)


def result(winner: Winner, figures: Figures) -> RenderableType:
    """Return the result as a panel: the winner, and its accuracy before and after fine-tuning."""
    progress = winner.study.progress
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("best", f"trial {winner.best.number} ({figures.trials} in all)")
    for name, value in tables.in_order(winner.best.hyperparameters):
        grid.add_row(f"  {name}", tables.scalar(value))
    grid.add_row("epochs", tables.epochs(progress.epochs, progress.epochs_saved))
    for what, value, style in (
        ("validation accuracy", figures.validation_accuracy, ""),
        ("test accuracy", figures.test_accuracy, "bold green"),
        ("  before fine-tuning", figures.test_accuracy_before, ""),
        ("  linear probe", winner.final.linear_probe_test_value, ""),
    ):
        grid.add_row(what, Text(tables.figure("accuracy", value), style=style))
    grid.add_row("time", f"{figures.seconds:.0f} s")
    title = "the best fine-tune"
    return Panel(grid, title=title, title_align="left", expand=False, padding=(1, 2))


def what_next(
    model: Path, address: Address, data_dir: Path, *, keep: bool
) -> list[tuple[str, str]]:
    """Return the facts to go on with: the path of the model, a command that uses it, the dashboard."""
    program = terminal.program()
    folder = (
        "" if data_dir == up.DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    )
    image = f"--builtin digits --index {PREDICTED_INDEX}"
    saved, try_it = ("model", str(model)), f"predict --model {shlex.quote(str(model))} {image}"
    if keep:
        dashboard = [("dashboard", address.dashboard), up.HOW_TO_STOP]
    else:
        dashboard = [("dashboard", f"`{program} up{folder}` opens it again")]
    return [saved, ("try it", f"{program} {try_it}"), *dashboard]


def _write(here: terminal.Terminal, figures: Figures | None, *, wanted: bool) -> None:
    if wanted and figures is not None:
        here.write_json(json.dumps(asdict(figures)))
