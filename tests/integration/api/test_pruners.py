"""The pruner of a study's document over REST: how it is told, and that its parameters decide."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.storage.engine import Database
from tests.support.app import Running, a_service
from tests.support.documents import PLAIN, a_document
from tests.support.until import until

EAGER = {"kind": "median", "startup_trials": 1, "warmup_epochs": 0}


@pytest.fixture
def replica(service: Running, database_url: str, tmp_path: Path) -> Generator[Running]:
    """A second service on the same database, which remembers nothing of what the first has read."""
    with a_service(database_url, tmp_path / "artifacts") as running:
        yield running


def report(service: Running, lease: dict[str, Any], value: float, *steps: int) -> str:
    """Report the value at some steps; the verdict."""
    reports = [{"step": step, "value": value} for step in steps]
    path = f"/v1/leases/{lease['lease_id']}/reports"
    return service.call("POST", path, {"reports": reports}).json()["verdict"]


def is_seen(database: Database) -> bool:
    """Whether a reader in commit order sees all events: no older transaction is under way."""
    with database.statements() as connection:
        newest = "SELECT pg_snapshot_xmin(pg_current_snapshot()) > max(xid) FROM trimtab.events"
        return bool(connection.execute(text(newest)).scalar_one())


@pytest.mark.parametrize(
    ("pruner", "told"),
    [
        ("median", ["continue"] * 3),
        ({"kind": "none"}, ["continue"] * 3),
        (EAGER, ["stop"] * 3),
        (EAGER | {"warmup_epochs": None}, ["continue", "continue", "stop"]),
        (EAGER | {"startup_trials": 2}, ["continue"] * 3),
        (EAGER | {"warmup_epochs": 2}, ["continue", "continue", "stop"]),
    ],
    ids=str,
)
def test_the_pruners_parameters_decide_what_a_bad_trial_is_told(
    service: Running, replica: Running, database: Database, pruner: Any, told: list[str]
) -> None:
    service.create(search={"sampler": "random", "pruner": pruner})
    (good,), (bad,) = (service.claim(service.register()) for _ in range(2))
    report(service, good, 0.9, 0, 1, 2)
    outcome = {"kind": "completed", "value": 0.9}
    service.call("PUT", f"/v1/leases/{good['lease_id']}/outcome", outcome)
    until(lambda: is_seen(database))
    assert [report(replica, bad, 0.1, step) for step in range(3)] == told


@pytest.mark.parametrize("pruner", ["median", {"kind": "median"}], ids=str)
def test_a_study_is_told_with_its_pruner_in_the_long_form(shared: Running, pruner: Any) -> None:
    name = shared.create(search={"pruner": pruner})
    long = {"kind": "median", "startup_trials": 5, "warmup_epochs": None, "min_trials": 1}
    told = shared.call("GET", f"/v1/studies/{name}").json()["document"]["search"]
    usual = {
        "sampler": "tpe",
        "seed": 0,
        "prior_strength": 3.0,
        "audit": 0.0,
        "tpe_startup_trials": 10,
        "auto_reason": None,
    }
    assert told == {"pruner": long, **usual, **PLAIN}


def test_the_same_pruner_in_its_other_form_is_the_same_request(shared: Running) -> None:
    document, key = a_document(name="either-form"), {"Idempotency-Key": "either-form"}
    made = [
        shared.call(
            "POST", "/v1/studies", document | {"search": {"pruner": pruner}}, headers=key
        )
        for pruner in ("median", {"kind": "median", "startup_trials": 5})
    ]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json()
