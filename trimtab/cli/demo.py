"""`trimtab demo`: a search on real data, from the start of the service to a tested model."""

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
from trimtab.cli.demo_studies import PLAIN_RATE, create, document, plain_document, tested
from trimtab.cli.family import Address, Asked, Family
from trimtab.cli.handover import environment
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.final_report import CandidateKind, FinalScores, Interval
from trimtab.contract.studies import BestTrial, Study

THREADS = 1
"""In a network this small, threads mostly wait for each other: on two busy cores, one took half the time of two."""

PREDICTED_INDEX = 7


@dataclass(frozen=True)
class Figures:
    """The figures that `--json` prints: accuracies in [0, 1], and the path of the saved model.

    `test_accuracy` is of the model that is handed over, `test_accuracy_plain` of one plain run.
    """

    trials: int
    handed_over: CandidateKind | None
    validation_accuracy: float
    test_accuracy_before: float | None
    test_accuracy_plain: float | None
    test_accuracy_validated: float | None
    test_accuracy: float
    seconds: float
    model: str


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
                plain = _run_plainly(family, client, screen)
                study = _search(family, client, screen)
                winner = find_winner(client, study, data_dir, plain)
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
    """The result of the study, the path of its saved model, and the study of the plain run."""

    study: Study
    best: BestTrial
    final: FinalScores
    model: Path
    plain: Study

    def figures(self, seconds: float) -> Figures:
        """Return the figures of a demo that took this many seconds."""
        plain, validated = self.test_of_plain, tested(self.study, "winner")
        return Figures(
            trials=self.study.trials_created,
            handed_over=None if self.final.report is None else self.final.report.handed_over,
            validation_accuracy=self.best.value,
            test_accuracy_before=self.final.test_value_before,
            test_accuracy_plain=None if plain is None else plain.value,
            test_accuracy_validated=None if validated is None else validated.value,
            test_accuracy=self.final.test_value,
            seconds=round(seconds, 1),
            model=str(self.model),
        )

    @property
    def test_of_plain(self) -> Interval | None:
        """What the plain run scored on the test split: its recipe trained on train and validation, as a script does."""
        return tested(self.plain, "refit")


def _run_plainly(family: Family, client: Client, screen: Console) -> Study:
    """Train once as a plain script does, so that the search has something to be better than."""
    study = create(client, "digits-plain", plain_document)
    what = f"one plain run to compare with: AdamW at {PLAIN_RATE}, no search"
    screen.print(f"Study {study.name}: {what}.", soft_wrap=True)
    for _ in watch.follow(client, study.name, check=family.check):
        pass
    return client.study(study.name)


def _search(family: Family, client: Client, screen: Console) -> Study:
    study = create(client, "digits", document)
    what = "glyphnet, pretrained on printed glyphs, is fine-tuned on 1,797 handwritten digits"
    screen.print(f"Study {study.name}: {what}.", soft_wrap=True)
    board.follow(screen, watch.follow(client, study.name, check=family.check))
    return client.study(study.name)


def find_winner(client: Client, study: Study, data_dir: Path, plain: Study) -> Winner:
    """Save the model of a study that is done, and return its winner.

    Raises:
        problems.NoModel: the study has no model; the detail says why.
    """
    if study.best is None or study.final is None:
        raise problems.NoModel(_why_without_model(client, study))
    model = client.download_model(study.name, data_dir / "models" / f"{study.name}.safetensors")
    return Winner(study, study.best, study.final, model, plain)


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
    grid.add_row("validation accuracy", _accuracy(figures.validation_accuracy))
    grid.add_row("on the sealed test split")
    for what, value, style in (
        ("before fine-tuning", figures.test_accuracy_before, ""),
        ("linear probe", winner.final.linear_probe_test_value, ""),
        ("one plain run", winner.test_of_plain, ""),
        ("best validated", tested(winner.study, "winner"), ""),
        (_handed_over(figures), _handed_over_test(winner), "bold green"),
    ):
        grid.add_row(f"  {what}", Text(_accuracy(value), style=style))
    grid.add_row("time", f"{figures.seconds:.0f} s")
    title = "the best fine-tune"
    return Panel(grid, title=title, title_align="left", expand=False, padding=(1, 2))


def _handed_over(figures: Figures) -> str:
    kind = figures.handed_over
    return "handed over" if kind is None else f"handed over: {kind.replace('_', ' ')}"


def _handed_over_test(winner: Winner) -> Interval | float:
    report = winner.final.report
    return winner.final.test_value if report is None else report.test


def _accuracy(value: Interval | float | None) -> str:
    """Return an accuracy in words, with its 95 % interval where it is known."""
    if not isinstance(value, Interval):
        return tables.figure("accuracy", value)
    low, high = (f"{100 * one:.1f}" for one in (value.low, value.high))
    return f"{tables.figure('accuracy', value.value)} ({low} to {high})"


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
