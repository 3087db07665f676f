"""What the service says when its database hangs, is locked, has no connection left, or no room."""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import event, text

from service import embedded
from service.embedded_processes import clear_away
from service.storage import engine
from service.storage.async_connection import AsyncConnection
from service.storage.engine import Database, Locked
from service.storage.statements import Statement
from service.use_cases import claims, studies
from tests.faults.proxy import Network, Proxy
from tests.support.app import Running, a_service
from tests.support.contexts import a_context, a_worker
from tests.support.documents import a_document, a_study_document
from tests.support.until import until
from trimtab.contract.leases import LeaseRequest
from trimtab.contract.problems import Unavailable

PATIENCE_S = 1.0


@pytest.fixture
def link(database_url: str) -> Generator[Proxy]:
    """A proxy before the test's database."""
    port = engine.normalised(database_url).port
    assert port is not None
    with Network() as network:
        yield network.proxy(lambda: [port], seed=0)


@pytest.fixture
def linked_url(database_url: str, link: Proxy) -> str:
    url = engine.normalised(database_url).set(port=link.port)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def linked(linked_url: str) -> Generator[Database]:
    """A pool over the proxy, whose patience is short."""
    database = replace(engine.connect(linked_url), deadline_s=PATIENCE_S)
    yield database
    database.dispose()


def ask(database: Database) -> int:
    with database.statements() as connection:
        return connection.execute(text("SELECT 1")).scalar_one()


def test_a_database_that_accepts_and_never_answers_is_given_up(
    linked: Database, link: Proxy
) -> None:
    assert ask(linked) == 1
    link.black_hole = True
    with pytest.raises(Unavailable) as refused:
        ask(linked)
    assert refused.value.retry_after_s
    link.heal()
    until(lambda: _answers(linked))


def test_a_commit_that_is_never_answered_is_given_up(linked: Database, link: Proxy) -> None:
    def write() -> None:
        with linked.transaction() as connection:
            connection.execute(text("SELECT pg_current_xact_id()"))
            link.black_hole = True

    with pytest.raises(Unavailable):
        write()
    link.heal()
    until(lambda: _answers(linked))


def test_a_lane_whose_database_never_answers_is_given_up_and_opened_again(
    linked: Database, link: Proxy
) -> None:
    one, connection = Statement("SELECT 1"), AsyncConnection(linked)

    async def lose_and_find() -> None:
        assert await connection.rows(one) == [(1,)]
        link.black_hole = True
        with pytest.raises(Unavailable):
            await connection.rows(one)
        assert connection.is_closed
        link.heal()
        until(lambda: _answers(linked))
        assert await connection.rows(one) == [(1,)]
        connection.close()

    asyncio.run(lose_and_find())


def test_while_one_request_tries_a_hanging_database_the_others_are_told_at_once(
    linked: Database, link: Proxy
) -> None:
    ask(linked)
    link.black_hole = True
    with pytest.raises(Unavailable):
        ask(linked)
    tries = Tries(linked)
    askers = [threading.Thread(target=_answers, args=[linked]) for _ in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert tries.most_at_once <= 1


class Tries:
    """Counts who connects to the database at the same time."""

    def __init__(self, database: Database) -> None:
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        event.listen(database.autocommit, "do_connect", self._connect)

    def _connect(self, _dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return psycopg2.connect(*arguments, **options)
        finally:
            with self._lock:
                self._now -= 1


def test_pooled_connections_that_a_restart_has_ended_cost_one_refusal(
    linked: Database, link: Proxy
) -> None:
    _ask_at_once(linked, 5)
    link.cut()
    with pytest.raises(Unavailable):
        ask(linked)
    until(lambda: _answers(linked))
    _ask_at_once(linked, 5)


def _ask_at_once(database: Database, count: int) -> None:
    """Over so many connections."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(database.statements()).execute(text("SELECT 1"))


def _answers(database: Database) -> bool:
    try:
        return ask(database) == 1
    except Unavailable:
        return False


def test_the_service_says_that_it_is_alive_and_not_ready(
    linked_url: str, link: Proxy, tmp_path: Path
) -> None:
    with a_service(linked_url, tmp_path) as service:
        link.black_hole = True
        for path in ("/readyz", "/v1/studies"):
            answer = service.call("GET", path)
            assert answer.status_code == 503
            assert answer.json()["type"] == "/problems/unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
        assert service.call("GET", "/livez").status_code == 204
        link.heal()
        service.wait_until_ready()
        assert service.call("GET", "/v1/studies").status_code == 200


def test_a_locked_study_costs_nobody_the_work_of_another(
    database: Database, tmp_path: Path
) -> None:
    context = a_context(database, tmp_path)
    studies.create(context, a_study_document(name="locked", priority=1000), None)
    studies.create(context, a_study_document(name="open", budget={"trials": 1}), None)
    with database.transaction(within_s=60) as other:
        other.execute(text("SELECT FROM trimtab.studies WHERE name = 'locked' FOR UPDATE"))
        (lease,) = claims.claim(context, _request(a_worker(context))).leases
        assert lease.study == "open"
        with pytest.raises(Locked):
            claims.claim(context, _request(a_worker(context)))


def _request(worker: object) -> LeaseRequest:
    return LeaseRequest.model_validate({"worker_id": worker, "claim_id": uuid4()})


@pytest.fixture(scope="module")
def small_disk() -> Generator[Path]:
    """A file system of its own with little room; making one takes root."""
    folder = Path("/tmp") / f"trimtab-disk-{uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=260m,mode=755", "tmpfs", str(folder)]
    made = subprocess.run(mount, check=False, capture_output=True, text=True)
    if made.returncode:
        folder.rmdir()
        pytest.skip(f"only root may mount a small file system: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        clear_away(folder / "postgres" / "data")
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture(scope="module")
def small_postgres(small_disk: Path) -> Generator[str]:
    """Little room and few connections."""
    settings = {
        "max_connections": "12",
        "superuser_reserved_connections": "0",
        "max_wal_size": "64MB",
        "min_wal_size": "48MB",
    }
    with embedded.running(small_disk, settings=settings) as server:
        yield server.url


@pytest.fixture(scope="module")
def cramped(
    small_postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Running]:
    """A service on it."""
    with a_service(small_postgres, tmp_path_factory.mktemp("artifacts")) as service:
        yield service


def test_on_a_full_disk_writes_are_refused_reads_work_and_it_recovers_alone(
    cramped: Running, small_disk: Path
) -> None:
    lease = cramped.leased(budget={"trials": 1000})
    filler = small_disk / "filler"
    _fill(filler)
    try:
        refused = _create_until_refused(cramped)
        assert refused["type"] == "/problems/storage-full"
        assert cramped.call("GET", f"/v1/studies/{lease['study']}").status_code == 200
        assert cramped.call("GET", "/readyz").status_code == 204
    finally:
        filler.unlink()
    cramped.create()
    outcome = {"kind": "completed", "value": 0.5}
    settled = cramped.call("PUT", f"/v1/leases/{lease['lease_id']}/outcome", outcome)
    assert settled.json() == {"state": "completed"}


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _create_until_refused(service: Running) -> dict[str, object]:
    for number in range(2000):
        document = a_document(name=f"filling-{number}")
        answer = service.call("POST", "/v1/studies", document)
        if answer.status_code != 201:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
            return answer.json()
    raise AssertionError("the disk never became full")


def test_without_a_connection_left_requests_are_refused_and_it_recovers_alone(
    cramped: Running, small_postgres: str
) -> None:
    cramped.wait_until_ready()
    url = engine.normalised(small_postgres)
    taken: list[psycopg2.extensions.connection] = []
    try:
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                taken.append(
                    psycopg2.connect(
                        host=url.host, port=url.port, user=url.username,
                        password=url.password, dbname=url.database,
                    )
                )  # fmt: skip
        askers = [Asker(cramped) for _ in range(30)]
        statuses = {status for asker in askers for status in asker.join_and_tell()}
        assert statuses <= {200, 503}
        assert 503 in statuses
    finally:
        for connection in taken:
            connection.close()
    cramped.wait_until_ready()
    assert cramped.call("GET", "/v1/studies").status_code == 200


class Asker(threading.Thread):
    """Asks for the studies a few times."""

    def __init__(self, service: Running) -> None:
        super().__init__()
        self._service = service
        self._statuses: list[int] = []
        self.start()

    def run(self) -> None:
        for _ in range(5):
            self._statuses.append(self._service.call("GET", "/v1/studies").status_code)

    def join_and_tell(self) -> list[int]:
        self.join()
        return self._statuses
