"""SQL round trips of each verb, counted by a relay between whoever speaks SQL and Postgres."""

import asyncio
import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy.engine import make_url

from tests.benchmarks import optuna_peer
from tests.benchmarks.control_plane_ways import (
    FINISHED,
    optuna_storage,
    optuna_study,
    our_study,
    service,
)
from tests.benchmarks.loads import REPORTS
from tests.benchmarks.machine import Bench
from tests.benchmarks.samples import Way
from trimtab.client import Client
from trimtab.contract.leases import Completed, LeaseRequest, Report, Reports
from trimtab.contract.workers import Registration

TRIALS = 10
Timed = Callable[[str, Callable[[], Any]], Any]


class Relay:
    """Passes bytes on and counts the answers: bytes from Postgres that follow bytes from its client.

    So a statement is one round trip, however long its text or its result, and so is each BEGIN and COMMIT.
    """

    def __init__(self, host: str, port: int) -> None:
        self.count = 0
        self.port = 0
        self._target = host, port

    async def listen(self) -> asyncio.Server:
        """Take connections on a free port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answers, questions = await asyncio.open_connection(*self._target)
        asked = False

        async def pass_questions() -> None:
            nonlocal asked
            while data := await reader.read(65536):
                asked = True
                questions.write(data)
            questions.close()

        async def pass_answers() -> None:
            nonlocal asked
            while data := await answers.read(65536):
                self.count += asked
                asked = False
                writer.write(data)
            writer.close()

        # What is still connected when the relay stops is cancelled with its loop.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(pass_questions(), pass_answers(), return_exceptions=True)


@contextmanager
def relayed(url: str) -> Generator[tuple[str, Relay]]:
    """A relay in a thread of its own, and the database's address through it."""
    address = make_url(url)
    relay = Relay(address.host or "127.0.0.1", address.port or 5432)
    stopper = Future[Callable[[], object]]()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await relay.listen()
        stopper.set_result(partial(loop.call_soon_threadsafe, over.set))
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    stop = stopper.result()
    through = address.set(host="127.0.0.1", port=relay.port)
    try:
        yield through.render_as_string(hide_password=False), relay
    finally:
        stop()
        thread.join()


def counted(bench: Bench, way: Way) -> Mapping[str, float]:
    """Round trips a call, the median of ten trials after two that warm up, under TPE, nothing else going on.

    Args:
        bench: the parts under test.
        way: who speaks SQL; ours counts claims that find no work too.
    """
    with relayed(bench.url) as (url, relay):
        found: defaultdict[str, list[int]] = defaultdict(list)

        def timed(verb: str, call: Callable[[], Any]) -> Any:
            before = relay.count
            answer = call()
            found[verb].append(relay.count - before)
            return answer

        if way == "ours":
            _live_ours(bench, url, timed)
        else:
            _live_optuna(bench, way, url, timed)
    warm = {"claim": 2, "report": 2 * REPORTS, "settle": 2, "idle claim": 2}
    return {
        verb: statistics.median(counts[warm[verb] :]) for verb, counts in sorted(found.items())
    }


def _live_ours(bench: Bench, url: str, timed: Timed) -> None:
    with service(bench, url) as (client, _, address):
        worker = client.register(Registration(label="bench", device="none"))

        def claim() -> LeaseRequest:
            return LeaseRequest(worker_id=worker.worker_id, claim_id=uuid4())

        for _ in range(TRIALS + 2):
            timed("idle claim", lambda: client.claim(claim()))
        with our_study(bench, client, address, "tpe", FINISHED):
            for _ in range(TRIALS + 2):
                _live_one(client, claim(), timed)


def _live_one(client: Client, request: LeaseRequest, timed: Timed) -> None:
    (lease,) = timed("claim", lambda: client.claim(request)).leases
    for step in range(REPORTS):
        reports = Reports(reports=(Report(step=step, value=0.5),))
        timed("report", lambda reports=reports: client.report(lease.lease_id, reports))
    timed("settle", lambda: client.settle(lease.lease_id, Completed(value=0.6)))


def _live_optuna(bench: Bench, way: Way, url: str, timed: Timed) -> None:
    name = optuna_study(bench, FINISHED)
    with optuna_storage(way, url) as (where, _):
        study = optuna_peer.study_of(optuna_peer.storage_of(way, where), name, "tpe", 0)
        for _ in range(TRIALS + 2):
            optuna_peer.live_one(study, timed)
