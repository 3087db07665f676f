"""`python -m tests.faults.soak --minutes N --seed S [--json]`: break things for a while, then check everything.

Prints the faults by kind, the trials and every violation; with `--json` the last line is one object of the figures. The exit
code is 1 when a promise was broken.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stamina

from service.storage.engine import normalised
from tests.faults import checker, cluster, facts, slowness
from tests.faults.cluster import TOKEN, Cluster, chances, until
from tests.faults.log import Window
from tests.faults.schedule import FAULTS, Schedule
from tests.faults.violation import Violation
from tests.support.documents import a_document, a_study_document
from trimtab.client import Client

LEASE_TTL_S = 2.0
STUDIES_AT_ONCE = 2
UNFREEZE_EVERY = (0, 0, 0, 1)
"""Trials of a study that thaws its backbone are claimed beside each other, found unlike, and given back."""
SEARCHED_BESIDES: Sequence[dict[str, Any]] = (
    {},
    {},
    {},
    {"label_smoothing": {"kind": "float", "low": 0.0, "high": 0.2}},
)
"""Nobody claims beside a trial of a study that searches more than how a head learns."""
PARALLEL: Sequence[int | None] = (None, None, 2, None, 1)
"""How many trials of a study run at a time."""
FINISHES: Sequence[dict[str, Any]] = (
    {"refit": False},
    {"refit": True},
    {"refit": True, "ensemble": 2},
    {"refit": True, "seeds": 2},
)
PRUNERS: Sequence[dict[str, Any]] = (
    {"kind": "asha", "first_rung": 1, "eta": 2},
    {"kind": "median", "startup_trials": 3},
    {"kind": "hyperband", "first_rung": 1, "eta": 2},
    {"kind": "none"},
    {"kind": "asha", "first_rung": 2, "eta": 3},
)
"""Taken by the studies in turn: also a short run has trials that the search pauses and takes up again."""
AUDITS = (0.0, 0.0, 0.2)
STALLS_AFTER_S = 120.0
"""Without any new event for so long, what is unfinished will not end."""
UNFINISHED = """
    SELECT (SELECT count(*) FROM trimtab.studies WHERE state NOT IN ('done', 'cancelled'))
         + (SELECT count(*) FROM trimtab.trials WHERE state IN ('queued', 'running', 'paused'))"""


@dataclass(frozen=True)
class Plan:
    """What to do, and for how long."""

    seconds: float
    seed: int
    kinds: Sequence[str] = tuple(FAULTS)
    workers: int = 4
    rounds: int = 0
    """At least so many rounds of faults, however long they take on a slow machine."""


@dataclass(frozen=True)
class Result:
    """What was done and what came of it."""

    trials: int
    attempts: int
    requests: int
    trained_beside: int
    """Attempts that ran beside others of their worker."""
    paused_by_search: int
    """How often the search paused a trial."""
    faults: dict[str, int] = field(default_factory=dict[str, int])
    violations: Sequence[Violation] = ()

    def figures(self) -> dict[str, Any]:
        """One object for `--json`."""
        return {
            "trials": self.trials,
            "attempts": self.attempts,
            "requests": self.requests,
            "trained_beside": self.trained_beside,
            "paused_by_search": self.paused_by_search,
            "faults": self.faults,
            "violations": len(self.violations),
            "broken": sorted({violation.invariant for violation in self.violations}),
            "details": [str(violation) for violation in self.violations],
        }


def run(plan: Plan, folder: Path) -> Result:
    """Run the schedule on a cluster of its own below `folder`, let everything end, and check."""
    stamina.instrumentation.set_on_retry_hooks([])
    windows: list[Window] = []
    began = time.time()
    with cluster.running(folder, workers=plan.workers) as stage:
        with slowness.noted(windows, folder):
            _break_and_heal(stage, plan, windows, began)
        password = normalised(stage.postgres.url).password
        found = facts.gather(stage, windows, [TOKEN, str(password)])
    return Result(
        trials=sum(row["kind"] == "trial" for row in found.ours["trials"]),
        attempts=len(found.ours["attempts"]),
        requests=len(found.ops),
        trained_beside=len(found.trained_beside),
        paused_by_search=found.paused_by_search,
        faults=dict(
            sorted(Counter(window.kind for window in windows if window.kind in FAULTS).items())
        ),
        violations=checker.check(found),
    )


def _break_and_heal(stage: Cluster, plan: Plan, windows: list[Window], began: float) -> None:
    with stage.client("operator") as operator:
        schedule = Schedule(stage, operator, plan.seed, plan.kinds, windows)
        deadline = time.monotonic() + plan.seconds
        with _studies(stage, operator, plan.seed):
            windows.append(Window("start", "all", began, time.time()))
            while time.monotonic() < deadline or schedule.rounds < plan.rounds:
                schedule.round()
        healing = time.time()
        stage.heal()
        windows.append(Window("heal", "all", healing, time.time()))
        _let_end(stage, operator)
    ending = time.time()
    stage.stop_workers()
    stage.stop_replicas()
    windows.append(Window("end", "all", ending, time.time()))


@contextmanager
def _studies(stage: Cluster, operator: Client, seed: int) -> Any:
    """Keep the workers busy with one study after the other."""
    enough = threading.Event()
    chance = chances(seed, "studies")

    def feed() -> None:
        number = 0
        while not enough.wait(0.3):
            sql = (
                "SELECT count(*) FROM trimtab.studies WHERE state NOT IN ('done', 'cancelled')"
            )
            if stage.value(sql) < STUDIES_AT_ONCE:
                operator.create_study(_a_study(number, chance))
                number += 1

    thread = threading.Thread(target=feed, name="studies")
    operator.info()
    until(operator.is_ready, cluster.START_WITHIN_S)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _a_study(number: int, chance: random.Random) -> Any:
    return a_study_document(
        name=f"study-{number}",
        space=a_document()["space"] | chance.choice(SEARCHED_BESIDES),
        fixed={
            "epochs": chance.randint(3, 6),
            "unfreeze_every": chance.choice(UNFREEZE_EVERY),
        },
        search={
            "sampler": chance.choice(("random", "tpe")),
            "pruner": PRUNERS[number % len(PRUNERS)],
            "audit": chance.choice(AUDITS),
        },
        budget={"trials": chance.randint(4, 14)},
        finish=chance.choice(FINISHES),
        priority=chance.randint(0, 1000),
        parallel=PARALLEL[number % len(PARALLEL)],
        max_crashes=4,
        lease_ttl_s=LEASE_TTL_S,
    )


def _let_end(stage: Cluster, operator: Client) -> None:
    """Wait for the end of everything, for as long as anything happens at all."""
    for row in stage.rows("SELECT name FROM trimtab.studies WHERE state = 'paused'"):
        operator.resume(row["name"])
    while stage.value(UNFINISHED):
        events = stage.value("SELECT count(*) FROM trimtab.events")

        def moved(events: int = events) -> bool:
            return (
                not stage.value(UNFINISHED)
                or stage.value("SELECT count(*) FROM trimtab.events") > events
            )

        if not until(moved, STALLS_AFTER_S, every_s=0.3):
            return


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = _parser().parse_args(argv)
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    kinds = tuple(options.faults or FAULTS)
    plan = Plan(seconds, options.seed, kinds, options.workers, options.rounds)
    with tempfile.TemporaryDirectory(
        prefix="trimtab-soak-", ignore_cleanup_errors=True
    ) as name:
        Path(name).chmod(0o755)
        folder = options.keep or Path(name)
        result = run(plan, folder / "cluster")
    _print(result, plan.seed)
    if options.json:
        sys.stdout.write(json.dumps(result.figures()) + "\n")
    return 1 if result.violations else 0


def _print(result: Result, seed: int) -> None:
    out = [
        f"seed {seed}: {result.trials} trials, {result.attempts} attempts, {result.trained_beside} of them beside others,"
        f" {result.requests} requests"
    ]
    out += [f"{count:6} {kind}" for kind, count in result.faults.items()]
    out += [str(violation) for violation in result.violations]
    out += [f"{len(result.violations)} violations"]
    sys.stdout.write("\n".join(out) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), metavar="KIND")
    parser.add_argument(
        "--keep", type=Path, help="keep databases, logs and journals in this folder"
    )
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
