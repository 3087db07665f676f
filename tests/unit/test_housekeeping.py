"""How the service's keeper begins: what it waits for, and what it gives up on."""

import threading
from collections.abc import Iterable
from typing import Any, cast

import pytest
from sqlalchemy.exc import ProgrammingError

from service import housekeeping
from service.housekeeping import Readiness
from service.storage import schema
from service.storage.foreign import DatabaseRefused
from service.use_cases.context import Context
from trimtab.contract.problems import Unavailable

REFUSAL = ProgrammingError(
    "CREATE TABLE ...", None, Exception("permission denied\nLINE 1: CREATE")
)


class Nothing:
    """A context that nobody looks into."""

    database: Any = None


def begun(monkeypatch: pytest.MonkeyPatch, answers: Iterable[Exception | None]) -> Readiness:
    """A keeper that was told to stop once it was ready, on a database that answers its migrations so."""
    stop, readiness, coming = threading.Event(), Readiness(), iter(answers)
    readiness.give_up = stop.set

    def migrate(_database: object) -> None:
        if (error := next(coming, None)) is not None:
            raise error

    monkeypatch.setattr(housekeeping, "RETRY_S", 0.0)
    monkeypatch.setattr(schema, "migrate", migrate)
    monkeypatch.setattr(schema, "version", lambda _database: "0001")  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    housekeeping.keep(
        *(cast(Context, Nothing()), readiness, stop),
        every_s=60.0,
        on_ready=stop.set,
        ring=lambda: None,
    )
    return readiness


def test_it_waits_for_a_database_that_is_away_and_bears_a_few_refusals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = [REFUSAL] * (housekeeping.REFUSALS - 1)
    readiness = begun(monkeypatch, [*refusals, *[Unavailable("gone")] * 9, *refusals, None])
    assert readiness.ready.is_set()
    assert readiness.fatal is None


def test_it_gives_up_on_a_database_that_goes_on_to_refuse_its_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readiness = begun(monkeypatch, [REFUSAL] * housekeeping.REFUSALS)
    assert not readiness.ready.is_set()
    assert (
        readiness.fatal
        == "The database cannot be brought to trimtab's schema: permission denied"
    )


def test_it_gives_up_at_once_on_a_database_that_is_not_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert begun(monkeypatch, [DatabaseRefused("another tool's")]).fatal == "another tool's"
