"""The catalogue of bad input: for every item that these parts can meet, the exact answer; and nothing is stored."""

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.storage import engine
from tests.integration.api.catalogue import (
    ABSENT,
    ELSEWHERE,
    TABLE,
    Bad,
    a_float,
    an_int,
    checkpoint,
    choices,
    reports,
)
from tests.support.app import JSON, Running, a_service, refused
from tests.support.documents import a_document

REPOSITORY = Path(__file__).parents[3]
TABLES = (
    "studies",
    "trials",
    "attempts",
    "reports",
    "events",
    "workers",
    "artifacts",
    "idempotency",
)
CANARY = "s3cr3t-c4n4ry"


@dataclass(frozen=True)
class World:
    service: Running
    names: dict[str, str]
    database: engine.Database

    def send(self, bad: Bad) -> Any:
        body = bad.body
        if body is not None and not isinstance(body, bytes):
            body = self._named(json.dumps(body)).encode()
        return self.service.call(bad.method, self._named(bad.path), body, headers=bad.headers)

    def _named(self, template: str) -> str:
        for name, value in self.names.items():
            template = template.replace(f"${name}", value)
        return template

    def counts(self) -> list[int]:
        counted = ", ".join(f"(SELECT count(*) FROM trimtab.{table})" for table in TABLES)
        with self.database.statements() as connection:
            return list(connection.execute(text(f"SELECT {counted}")).one())


@pytest.fixture(scope="module")
def world(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[World]:
    url = new_database()
    database = engine.connect(url)
    with a_service(url, tmp_path_factory.mktemp("artifacts")) as service:
        yield World(service, a_world(service), database)
    database.dispose()


def a_world(service: Running) -> dict[str, str]:
    artifact = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"
    service.create(name="over", priority=0)
    service.call("POST", "/v1/studies/over:cancel")
    service.create(name="deleted", priority=0)
    service.call("DELETE", "/v1/studies/deleted")
    service.call(
        "POST",
        "/v1/studies",
        a_document(name="world", budget={"trials": 2}),
        headers={"Idempotency-Key": "key-of-the-world"},
    )
    worker = service.register(capacity=1)
    (settled,) = service.claim(worker)
    service.call(
        "PUT", f"/v1/leases/{settled['lease_id']}/outcome", {"kind": "completed", "value": 0.5}
    )
    (lease,) = service.claim(worker)
    service.call("POST", f"/v1/leases/{lease['lease_id']}/reports", reports((3, 0.5)))
    service.call("PUT", f"/v1/artifacts/{artifact}", b"hello")
    names = {
        "worker": worker,
        "settled": settled["lease_id"],
        "lease": lease["lease_id"],
        "artifact": artifact,
    }
    recorded = json.loads(json.dumps(checkpoint(3)).replace("$artifact", artifact))
    assert (
        service.call(
            "POST", f"/v1/leases/{lease['lease_id']}/checkpoints", recorded
        ).status_code
        == 204
    )
    return names


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.item} {bad.what}"[:70])
def test_bad_input_is_refused_by_its_name_and_changes_nothing(world: World, bad: Bad) -> None:
    before = world.counts()
    document = refused(world.send(bad), bad.status, bad.slug)
    errors = document.get("errors", [])
    assert bad.pointer is None or bad.pointer in [error["pointer"] for error in errors], errors
    assert bad.says in json.dumps([document["detail"], errors], ensure_ascii=False)
    assert world.counts() == before


def test_the_world_outlives_the_table(world: World) -> None:
    lease = world.names["lease"]
    answer = world.service.call("POST", f"/v1/leases/{lease}:heartbeat")
    assert answer.json()["verdict"] == "continue"
    study = world.service.call("GET", "/v1/studies/world").json()
    assert (study["state"], study["best"]["validation_accuracy"]) == ("active", 0.5)


def test_every_item_of_the_catalogue_is_met_or_named_as_absent() -> None:
    met = {bad.item for bad in TABLE} - {0}
    assert met | set(ELSEWHERE) | set(ABSENT) == set(range(1, 89))
    assert not (met | set(ELSEWHERE)) & set(ABSENT)
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (REPOSITORY / file).read_text()


SECRETS = [
    a_document(name=CANARY.upper()),
    a_document(name=[CANARY]),
    a_document(task=CANARY),
    a_document(task={"kind": CANARY}),
    a_document(task={"kind": "classification", "dataset": {"kind": CANARY}}),
    a_document(task={"kind": "classification", "dataset": {"kind": "builtin", "name": CANARY}}),
    a_document(model={"backbone": CANARY}),
    a_document(model={"backbone": "resnet18", "weights": CANARY}),
    a_document(model={"backbone": "resnet18", "password": CANARY}),
    a_document(space={"weight_decay": {"kind": CANARY}}),
    a_document(space={"weight_decay": a_float(low=CANARY)}),
    a_document(space={"optimizer": choices("sgd", CANARY)}),
    a_document(fixed={"optimizer": CANARY}),
    a_document(fixed={"epochs": CANARY}),
    a_document(search={"sampler": CANARY}),
    a_document(budget={"trials": CANARY}),
    CANARY,
    [CANARY],
]


@pytest.mark.parametrize("body", SECRETS)
def test_a_refused_value_is_never_repeated(shared: Running, body: Any) -> None:
    answer = shared.call("POST", "/v1/studies", json.dumps(body).encode())
    assert answer.status_code == 422
    assert CANARY not in answer.text.lower()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/v1/studies/{CANARY.upper()}", {}),
        (f"/v1/studies/x/trials/{CANARY}", {}),
        (f"/v1/artifacts/{CANARY}", {}),
        (f"/v1/studies?page_size={CANARY}", {}),
        (f"/v1/studies?page_token={CANARY}", {}),
        (f"/{CANARY}", {}),
        ("/v1/studies/x/events", {"Last-Event-ID": CANARY}),
        ("/v1/studies", {"Host": CANARY}),
    ],
)
def test_an_address_or_header_is_never_repeated(
    shared: Running, path: str, headers: dict[str, str]
) -> None:
    answer = shared.call("GET", path, headers=headers)
    assert 400 <= answer.status_code < 500
    assert CANARY not in answer.text.lower()


def test_all_faults_of_a_document_are_named_at_once(shared: Running) -> None:
    document = a_document(
        name="A",
        space={"weight_dcay": a_float(), "batch_size": a_float()},
        fixed={"epochs": 0, "batch_size": 8},
    )
    told = refused(shared.call("POST", "/v1/studies", document), 422, "invalid")
    assert [error["pointer"] for error in told["errors"]] == [
        "/name",
        "/space/weight_dcay",
        "/fixed/epochs",
        "/space/batch_size",
        "/fixed/batch_size",
    ]


def test_of_a_hundred_thousand_faults_a_hundred_are_told(shared: Running) -> None:
    flood = {f"f{n}": 1 for n in range(60_000)}
    document = refused(shared.call("POST", "/v1/studies", flood), 422, "invalid")
    assert len(document["errors"]) == 100
    document = refused(
        shared.call("POST", "/v1/studies", a_document(fixed=flood)), 422, "invalid"
    )
    assert len(document["errors"]) == 100


@pytest.mark.parametrize("path", ["/v1/studies", "/v1/leases", "/v1/workers"])
def test_a_body_without_a_length_is_counted(shared: Running, path: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 2**16

    answer = shared.http.request("POST", path, content=endless(), headers=JSON)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    refused(answer, 413, "payload-too-large")


def test_a_range_of_one_value_is_a_range(shared: Running) -> None:
    lease = shared.leased(
        space={"weight_decay": a_float(low=0.5, high=0.5), "batch_size": an_int(low=7, high=7)}
    )
    assert lease["hyperparameters"] == {"weight_decay": 0.5, "batch_size": 7}


def test_a_long_message_is_cut_and_its_outcome_kept(shared: Running) -> None:
    lease = shared.leased()
    outcome = {"kind": "failed", "error": "crashed", "message": "\0\ud800" + "é" * 20_000}
    answer = shared.call(
        "PUT", f"/v1/leases/{lease['lease_id']}/outcome", json.dumps(outcome).encode()
    )
    assert answer.json() == {"state": "failed"}
    trial = shared.call("GET", f"/v1/studies/{lease['study']}/trials/0").json()
    assert trial["error_message"] == "\ufffd\ufffd" + "é" * 8190
