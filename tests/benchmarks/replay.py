"""Searches over real learning curves: ours through the service's own code, beside plain Optuna and Syne Tune.

    ./run bench replay [--tasks TASK ...] [--sides SIDE ...] [--workers 1 4 16] [--restarts 0 2] [--seeds 10] [--full-runs 10]
                       [--through service|room] [--candidate SIDE] [--keep FILE] [--folder FOLDER] [--quick] [--json]
                       [--transfer]

Simulated workers claim trials, report a table's value after each epoch, and do as they are told; time is simulated. A side
is compared by its median time to the median end value of a peer, over the peer's own time to it; the value of a search is
what the best model that it has measured is truly worth. Only tasks that constants may be chosen on are known here.

With `--keep` results gather in a file: what is in it is not run again, and several processes may add to it. `--folder`
keeps the environment of the peers. `--through room` asks our sampling room over a history in memory, which is ten times as
fast and proposes the same. `--transfer` measures what earlier studies of other tasks give, and nothing else
(`replay_transfer.py`).
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import text

from service import embedded
from service.storage import engine, schema
from service.storage.engine import Database
from tests.benchmarks import replay_figures as told
from tests.benchmarks import replay_transfer
from tests.benchmarks.peer_venv import PeerMissing
from tests.benchmarks.replay_ours import SEARCHES, OfRoom, OfService
from tests.benchmarks.replay_peers import OPTUNAS, SYNE_TUNES, OfOptuna, OfSyneTune
from tests.benchmarks.replay_results import Kept, Run, Setting
from tests.benchmarks.replay_simulator import Replayed, Searcher, replay
from tests.benchmarks.replay_tasks import TASKS, Task, task_of
from tests.benchmarks.replay_venv import Desk, desk

SIDES = (*SEARCHES, *OPTUNAS, *SYNE_TUNES)
USUAL = tuple(
    name
    for name in SIDES
    if name not in ("syne-tune bohb", "ours freeze-thaw", "ours gp+median")
)
"""Without a peer that takes a minute a search, and without what `auto` stands for: on most tasks, and beside constraints."""
CANDIDATES = ("ours auto", "ours gp", "ours tpe+median")
MOST_EPOCHS = 4_200
"""The most epochs of a search by default: sixteen workers get half of the budget that four get."""


class Cluster:
    """Where our side's studies live: a Postgres of our own, a database for each study."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder, self._numbers = url, folder, count()
        self._say("CREATE DATABASE template_replay")
        migrated = engine.connect(self._at("template_replay"))
        schema.migrate(migrated)
        migrated.dispose()

    @contextmanager
    def database(self) -> Generator[tuple[Database, Path]]:
        """Yield a migrated database and a folder for artifacts, both for one study."""
        name = f"replay_{next(self._numbers)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE template_replay")
        opened = engine.connect(self._at(name))
        try:
            yield opened, self._folder / name
        finally:
            opened.dispose()
            self._say(f"DROP DATABASE {name} WITH (FORCE)")

    def _say(self, statement: str) -> None:
        admin = engine.connect(self._url)
        with admin.statements() as connection:
            connection.execute(text(statement))
        admin.dispose()

    def _at(self, name: str) -> str:
        url = engine.normalised(self._url).set(database=name)
        return url.render_as_string(hide_password=False)


@contextmanager
def cluster() -> Generator[Cluster]:
    """Start Postgres; what it would lose in a power cut is a benchmark's time."""
    settings = {"fsync": "off", "full_page_writes": "off"}
    with (
        tempfile.TemporaryDirectory() as name,
        embedded.running(Path(name), settings=settings) as postgres,
    ):
        yield Cluster(postgres.url, Path(name))


@contextmanager
def side(run: Run, task: Task, desk: Desk, where: Cluster | None) -> Generator[Searcher]:
    """Yield the side of a run; ours through the whole service where there is a cluster, else by the room alone."""
    workers, seed = run.setting.workers, run.seed
    if run.side in OPTUNAS:
        yield OfOptuna(task, run.side, seed=seed)
    elif run.side in SYNE_TUNES:
        yield OfSyneTune(desk, task, run.side, seed=seed)
    elif where is None:
        yield OfRoom(task, SEARCHES[run.side], seed=seed)
    else:
        search = SEARCHES[run.side]
        with where.database() as (database, folder):
            yield OfService(database, folder, task, search, workers=workers, seed=seed)


def replayed(run: Run, task: Task, desk: Desk, where: Cluster | None) -> Replayed:
    """Make one run."""
    setting = run.setting
    with side(run, task, desk, where) as searcher:
        return replay(
            searcher,
            task,
            workers=setting.workers,
            full_runs=setting.full_runs,
            restart=setting.restart,
            seed=run.seed,
        )


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """Yield what is to be run, seed by seed, so that an interrupted run can be compared."""
    for workers in options.workers:
        for seed in range(options.seeds):
            for task in options.tasks:
                epochs = workers * options.full_runs * 52
                full_runs = options.full_runs * min(1.0, MOST_EPOCHS / epochs)
                for restart in options.restarts:
                    setting = Setting(task, workers, round(full_runs, 2), restart)
                    for name in options.sides:
                        yield Run(setting, name, seed)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make the runs that are not kept, print the tables, and return the figures.

    Raises:
        FileNotFoundError: the curves are not there.
        PeerMissing: what reads them cannot be installed here.
    """
    if options.transfer:
        with _curves(options) as curves:
            tasks = {name: task_of(curves, name) for name in options.tasks}
            return {"transfer": replay_transfer.measure(tasks, seeds=options.seeds, say=say)}
    kept, wanted = Kept(options.keep), list(runs(options))
    missing = [run for run in wanted if run not in kept.done]
    if missing:
        _make(missing, kept, options)
    return _told({run: kept.done[run] for run in wanted}, options.candidate)


def _make(missing: Sequence[Run], kept: Kept, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        curves = stack.enter_context(_curves(options))
        tasks = {name: task_of(curves, name) for name in options.tasks}
        is_ours = any(run.side in SEARCHES for run in missing)
        through_service = is_ours and options.through == "service"
        where = stack.enter_context(cluster()) if through_service else None
        for run in missing:
            kept.add(run, replayed(run, tasks[run.setting.task], curves, where))


@contextmanager
def _curves(options: argparse.Namespace) -> Generator[Desk]:
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(desk(folder))


def _told(done: dict[Run, Replayed], candidate: str | None) -> dict[str, Any]:
    for setting, sides in sorted(told.by_setting(done).items()):
        for line in told.table(setting, sides):
            say(line)
    ran = {run.side for run in done}
    chosen = candidate or next((name for name in CANDIDATES if name in ran), None)
    return {} if chosen is None else told.figures(done, chosen)


def say(line: str) -> None:
    """Print as it comes."""
    print(line, flush=True)  # noqa: T201 - the table is the product


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="searches over real learning curves")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    parser.add_argument("--sides", nargs="+", default=list(USUAL), choices=SIDES)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--restarts", type=float, nargs="+", default=[0.0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--full-runs", type=float, default=10.0)
    parser.add_argument("--through", choices=("service", "room"), default="service")
    parser.add_argument("--candidate", choices=[name for name in SIDES if name in SEARCHES])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--transfer", action="store_true", help="from the other tasks")
    parser.add_argument("--quick", action="store_true", help="one task, 4 workers, 3 seeds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.workers, options.seeds = ["7593"], [4], min(3, options.seeds)
    return options


def part(seeds: int) -> dict[str, Any]:
    """Measure with the usual options, as a part of another benchmark; empty where the curves or their reader are missing."""
    usual = ["--seeds", str(seeds)]
    return measured(options_of(usual)) | measured(options_of([*usual, "--transfer"]))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Do as `measure`; where something is missing, say so and return nothing."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        return measure(options)
    except (FileNotFoundError, PeerMissing) as error:
        say(f"skipped: {error}")
        return {}


def main() -> None:
    """Measure and print; with --json the last line is one JSON object of the figures."""
    options = options_of()
    found = measured(options)
    if options.json:
        say(json.dumps(found))


if __name__ == "__main__":
    main()
