"""What a verb costs: statements sent, however many trials there are."""

# ruff: noqa: B023 - each verb is called before the next round begins

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2.extensions
import pytest
from sqlalchemy import event

from service.storage import engine
from service.storage.engine import Database
from tests.support.contexts import a_context
from tests.support.protocol import Service
from trimtab.contract.leases import Lease


class Counter:
    """Counts what a database is asked, under both of our ways to ask; BEGIN, COMMIT and PREPARE apart."""

    def __init__(self) -> None:
        self.statements = 0

    def listen(self, database: Database) -> None:
        counter = self

        class Cursor(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's word
                counter.statements += not str(query).startswith("PREPARE")
                super().execute(query, vars)

        for pool in (database.engine, database.autocommit):
            event.listen(
                pool, "do_connect", lambda *args: args[3].update(cursor_factory=Cursor)
            )

    def of(self, verb: Callable[[], object]) -> int:
        """How many statements the verb takes."""
        before = self.statements
        verb()
        return self.statements - before


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_verb_takes_few_statements_however_many_trials_there_are(
    service: Service, database_url: str, tmp_path: Path, pruner: str
) -> None:
    database, counter = engine.connect(database_url), Counter()
    counter.listen(database)
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
