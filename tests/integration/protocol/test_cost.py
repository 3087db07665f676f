"""What a verb costs: statements sent, however many trials there are."""

# ruff: noqa: B023 - each verb is called before the next round begins

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2.extensions
import pytest
from sqlalchemy import event

from service.storage import engine
from service.storage.engine import Database
from tests.support.contexts import a_context
from tests.support.fast_path import on_fast_path
from tests.support.protocol import Service
from trimtab.contract.leases import Lease


class Counter:
    """Counts what a database is asked, under both of our ways to ask; BEGIN, COMMIT and PREPARE apart."""

    def __init__(self) -> None:
        self.statements = 0
        """Sent; several in one round trip count as one."""

    def on(self, url: str) -> Database:
        """A database that is listened to."""
        counter = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's word
                counter.statements += not str(query).startswith("PREPARE")
                super().execute(query, vars)

        database = engine.connect(url)
        arguments = {**database.connect_arguments, "cursor_factory": Cursor}
        for pool in (database.engine, database.autocommit):
            event.listen(
                pool, "do_connect", lambda *args: args[3].update(cursor_factory=Cursor)
            )
        return replace(database, connect_arguments=arguments)

    def of(self, verb: Callable[[], object]) -> int:
        """How many statements the verb takes."""
        before = self.statements
        verb()
        return self.statements - before


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_verb_takes_few_statements_however_many_trials_there_are(
    service: Service, database_url: str, tmp_path: Path, pruner: str
) -> None:
    counter = Counter()
    database = counter.on(database_url)
    on = Service(a_context(database, tmp_path), service.clock)
    service.study(budget={"trials": 60}, search={"sampler": "random", "pruner": pruner})
    workers = [service.worker() for _ in range(60)]
    taken: list[tuple[int, int, int, int]] = []
    for worker in workers:
        got: list[Lease] = []
        claim = counter.of(lambda: got.extend(on.claim(worker)))
        report = counter.of(lambda: on.report(got[0], 0.5, 0.6))
        heartbeat = counter.of(lambda: on.heartbeat(got[0]))
        taken.append((claim, report, heartbeat, counter.of(lambda: on.complete(got[0], 0.5))))
    database.dispose()
    claim, report, heartbeat, settle = (max(kind) for kind in zip(*taken[1:59], strict=True))
    assert claim <= 4
    assert report <= (2 if pruner == "none" else 4)
    assert heartbeat <= 2
    assert settle <= 5
    assert taken[1] == taken[58]


@pytest.mark.parametrize("pruner", ["none", "median"])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_short_ways_take_two_round_trips_for_a_claim_and_one_for_all_else(
    service: Service, database_url: str, tmp_path: Path, sampler: str, pruner: str
) -> None:
    counter = Counter()
    database = counter.on(database_url)
    service.study(budget={"trials": 60}, search={"sampler": sampler, "pruner": pruner})
    with on_fast_path(Service(a_context(database, tmp_path), service.clock)) as on:
        taken = {one_life(counter, on, service.worker()) for _ in range(20)}
    database.dispose()
    # The first life is learnt from; TPE reads what has changed since its last proposal, a pruner once a second.
    assert min(taken) == (2 if sampler == "random" else 3, 1, 1)
    assert len(taken) <= (2 if pruner == "none" else 3)


def test_a_claim_that_finds_no_work_takes_one_round_trip_and_one_more_where_its_worker_was_quiet(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    counter = Counter()
    database = counter.on(database_url)
    worker = service.worker()
    with on_fast_path(Service(a_context(database, tmp_path), service.clock)) as on:
        on.claim(worker)
        taken = [counter.of(lambda: on.claim(worker))]
        service.clock.advance(11)
        taken += [counter.of(lambda: on.claim(worker)) for _ in range(2)]
    database.dispose()
    assert taken == [1, 2, 1]
    assert service.value("SELECT last_seen = trimtab.now() FROM trimtab.workers")


def one_life(counter: Counter, on: Service, worker: UUID) -> tuple[int, int, int]:
    """What a claim, a report and an outcome took."""
    got: list[Lease] = []
    claim = counter.of(lambda: got.extend(on.claim(worker)))
    report = counter.of(lambda: on.report(got[0], 0.5, 0.6))
    return claim, report, counter.of(lambda: on.complete(got[0], 0.5))
