"""Our verbs against Optuna's own: the same trial lives leave the same rows in every table of Optuna's."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from service.storage import engine
from service.storage.engine import Database
from service.use_cases import studies
from tests.support.documents import a_document, a_study_document
from tests.support.optuna_twin import Twin, comparable, optuna_tables, storage_on
from tests.support.protocol import Service, empty
from trimtab.contract.leases import Completed, Failed, Lease, Outcome, Pruned
from trimtab.contract.problems import CheckpointGoesBack, StepConflict, StudyNotActive

SPACE: dict[str, Any] = {
    "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "momentum": {"kind": "float", "low": 0.0, "high": 0.5, "step": 0.1},
    "frozen_stages": {"kind": "int", "low": 0, "high": 3},
    "batch_size": {"kind": "choices", "choices": [16, 32, 64]},
    "optimizer": {"kind": "choices", "choices": ["sgd", "adamw"]},
}
WHICH = st.integers(0, 2)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
CURVE = st.lists(st.none() | FINITE, min_size=1, max_size=3)
FAILED = [
    Failed(error="oom"),
    Failed(error="oom", retryable=True),
    Failed(error="diverged", message="It fell."),
    Failed(error="crashed", message="It fell.", retryable=True),
    Failed(error="data_missing", retryable=True),
    Failed(error="cancelled"),
]
FINISHED = st.builds(Completed, value=FINITE) | st.just(Pruned())
CHANGES = [studies.pause, studies.resume, studies.resume, studies.stop, studies.cancel]


class Lives(RuleBasedStateMachine):
    """Random trial lives, through our use cases; Optuna is told what the events say."""

    def __init__(
        self,
        service: Service,
        twin_storage: optuna.storages.RDBStorage,
        twin: Database,
        seen: set[tuple[str, str | None]],
    ) -> None:
        super().__init__()
        self.service = service
        self.twin_storage = twin_storage
        self.twin_database = twin
        self.seen = seen
        self.leases: list[Lease] = []
        self.told = 0
        for database in (service.context.database, twin):
            empty(database)
        self.worker = service.worker(capacity=3)

    @initialize(
        sampler=st.sampled_from(["random", "tpe"]),
        trials=st.integers(2, 4),
        max_crashes=st.integers(1, 2),
        objective=st.sampled_from(["accuracy", "loss"]),
    )
    def create(self, sampler: str, trials: int, max_crashes: int, objective: str) -> None:
        changes: dict[str, Any] = {
            "task": {**a_document()["task"], "objective": objective},
            "space": SPACE,
            "search": {"sampler": sampler, "pruner": "none"},
            "budget": {"trials": trials, "wall_time_s": 1000},
            "max_crashes": max_crashes,
        }
        self.name = self.service.study("lives", **changes)
        self.twin = Twin(self.twin_storage, "lives", a_study_document(**changes))

    @precondition(lambda self: len(self.leases) < 3)
    @rule(capacity=st.integers(1, 3))
    def claim(self, capacity: int) -> None:
        self.leases += self.service.claim(
            self.worker, capacity=min(capacity, 3 - len(self.leases))
        )

    @rule(which=WHICH, step=st.integers(0, 4), values=CURVE)
    def report(self, which: int, step: int, values: Sequence[float | None]) -> None:
        if (lease := self.a_lease(which)) and lease.kind == "trial":
            try:
                self.service.report(lease, *values, step=step)
            except StepConflict:
                return  # this attempt has told another value of that step: nothing is stored

    @rule(which=WHICH, step=st.integers(0, 4))
    def checkpoint(self, which: int, step: int) -> None:
        if (lease := self.a_lease(which)) and lease.kind == "trial":
            self.service.heartbeat(lease)
            try:
                self.service.checkpoint(lease, step, best=0)
            except CheckpointGoesBack:
                return  # nothing is stored

    @rule(which=WHICH, step=st.integers(0, 4), values=CURVE, outcome=FINISHED)
    def finish(
        self, which: int, step: int, values: Sequence[float | None], outcome: Outcome
    ) -> None:
        self.report(which, step, values)
        self.settle(which, outcome)

    @rule(which=WHICH, failure=st.sampled_from(FAILED))
    def fail(self, which: int, failure: Failed) -> None:
        self.settle(which, failure)

    @rule(which=WHICH, paused=st.booleans())
    def give_back(self, which: int, paused: bool) -> None:
        if lease := self.a_lease(which):
            self.leases.remove(lease)
            (self.service.give_back_paused if paused else self.service.drain)(lease)

    @rule()
    def pause_and_give_back(self) -> None:
        self.a_lease(0)
        self.change(studies.pause)
        while self.leases:
            self.service.give_back_paused(self.leases.pop())

    @rule(at_once=st.booleans())
    def fall_silent(self, at_once: bool) -> None:
        """The workers die; the back-off passes, or not yet."""
        self.a_lease(0)
        assert self.service.expire() == len(self.leases)
        self.leases.clear()
        self.service.clock.advance(0.0 if at_once else 400.0)

    def a_lease(self, which: int) -> Lease | None:
        """One at hand, else a new one, if there is work."""
        if not self.leases:
            self.claim(1)
        return self.leases[which % len(self.leases)] if self.leases else None

    def settle(self, which: int, outcome: Outcome) -> None:
        lease = self.a_lease(which)
        if lease is None:
            return
        self.leases.remove(lease)
        if lease.kind == "trial":
            self.service.settle(lease, outcome)
        elif isinstance(outcome, Completed):
            self.service.complete_final(lease)
        else:
            self.service.fail(lease, retryable=True)

    @rule(change=st.sampled_from(CHANGES))
    def change(self, change: Callable[..., object]) -> None:
        try:
            change(self.service.context, self.name)
        except StudyNotActive:
            return  # not from the state that it is in: nothing is stored

    def delete(self) -> None:
        self.change(studies.cancel)
        while self.leases:
            self.service.fail(self.leases.pop(), "cancelled")
        studies.delete(self.service.context, self.name)
        self.twin.delete()

    @invariant()
    def optuna_told_the_same_has_the_same_rows(self) -> None:
        events = self.service.rows(
            """SELECT id, kind, trial_number, body FROM trimtab.events
               WHERE id > :told AND (trial_number IS NOT NULL OR kind = 'study_done') ORDER BY id""",
            told=self.told,
        )
        for event in events:
            if event.kind == "study_done":
                self.twin.show_final(event.body)
            else:
                self.twin.tell(event.kind, event.trial_number, event.body)
            self.told = event.id
            kind = "cancelled" if event.kind == "trial_cancelled" else None
            self.seen.add((event.kind, event.body.get("error_kind", kind)))
        ours, optunas = (
            comparable(self.service.context.database),
            comparable(self.twin_database),
        )
        for table, rows in optunas.items():
            assert ours[table] == rows, table


@pytest.fixture
def twin(
    new_database: Callable[[], str],
) -> Generator[tuple[optuna.storages.RDBStorage, Database]]:
    """A database that only Optuna writes, and a view of it for us."""
    url = new_database()
    storage, database = storage_on(url), engine.connect(url)
    yield storage, database
    storage.engine.dispose()
    database.dispose()


def test_random_trial_lives_leave_the_rows_that_optuna_itself_would_leave(
    either: Service, twin: tuple[optuna.storages.RDBStorage, Database]
) -> None:
    class LivesHere(Lives):
        def __init__(self) -> None:
            super().__init__(either, *twin, set())

    run_state_machine_as_test(
        LivesHere,
        settings=settings(
            max_examples=30, stateful_step_count=20, derandomize=True, phases=[Phase.generate]
        ),
    )


def test_every_event_of_a_trial_leaves_the_rows_that_optuna_itself_would_leave(
    service: Service, twin: tuple[optuna.storages.RDBStorage, Database]
) -> None:
    seen: set[tuple[str, str | None]] = set()
    dice = Random(1)
    for _ in range(40):
        world = Lives(service, *twin, seen)
        world.create(dice.choice(["random", "tpe"]), 3, 2, dice.choice(["accuracy", "loss"]))
        for _ in range(12):
            live_on(world, dice)
            world.optuna_told_the_same_has_the_same_rows()
        world.delete()
        world.optuna_told_the_same_has_the_same_rows()
    assert seen >= {
        *((f"trial_{kind}", None) for kind in ("started", "resumed", "queued", "paused")),
        *((f"trial_{kind}", None) for kind in ("completed", "pruned")),
        ("checkpointed", None),
        *(("trial_queued", kind) for kind in ("killed", "oom")),
        *(("trial_failed", kind) for kind in ("oom", "diverged", "poison")),
        ("trial_cancelled", "cancelled"),
    }


def live_on(world: Lives, dice: Random) -> None:
    """One verb, each as likely as the next: hypothesis favours a few in each of its examples."""
    which, flag, step = dice.randrange(3), dice.random() < 0.5, dice.randrange(5)
    values = dice.choices([0.25, -1e300, 1e-300, None], k=1 + which)
    finished = dice.choice([Completed(value=dice.uniform(-1, 1)), Pruned()])
    verbs: Sequence[Callable[[], object]] = (
        lambda: world.claim(1 + which) if len(world.leases) < 3 else None,
        lambda: world.report(which, step, values),
        lambda: world.checkpoint(which, step),
        lambda: world.finish(which, step, values, finished),
        lambda: world.fail(which, dice.choice(FAILED)),
        lambda: world.give_back(which, flag),
        world.pause_and_give_back,
        lambda: world.fall_silent(flag),
        lambda: world.change(dice.choice(CHANGES)),
    )
    dice.choice(verbs)()


def test_the_schema_that_we_write_to_is_the_one_that_we_were_tested_with(
    database: Database,
) -> None:
    snapshot = Path(__file__).with_name("optuna_schema.txt")
    assert schema_of_optuna(database) == snapshot.read_text().splitlines()


def schema_of_optuna(database: Database) -> list[str]:
    """Optuna's tables, columns, constraints, indexes, triggers and enumerations, as lines; our own guards included."""
    with database.statements() as connection:
        return list(connection.execute(text(_SCHEMA)).scalars())


_TABLES = ", ".join(f"'{table.name}'" for table in optuna_tables())
_SCHEMA = f"""
    WITH lines AS (
        SELECT concat_ws(' ', 'column', table_name, column_name, udt_name, 'nullable', is_nullable,
                         'default', column_default) AS line
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN ({_TABLES})
        UNION ALL
        SELECT concat_ws(' ', 'constraint', conrelid::regclass, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
            AND conrelid::regclass::text IN ({_TABLES}) AND contype IN ('c', 'f', 'u', 'p')
        UNION ALL
        SELECT concat_ws(' ', 'index', indexdef)
        FROM pg_indexes WHERE schemaname = 'public' AND tablename IN ({_TABLES})
        UNION ALL
        SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(oid))
        FROM pg_trigger WHERE tgrelid::regclass::text IN ({_TABLES}) AND NOT tgisinternal
        UNION ALL
        SELECT concat_ws(' ', 'enumeration', t.typname, string_agg(e.enumlabel, ' ' ORDER BY e.enumlabel))
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.typnamespace = 'public'::regnamespace
        GROUP BY t.typname)
    SELECT line FROM lines ORDER BY line COLLATE "C" """
