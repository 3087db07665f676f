"""Faults between processes: on the way to the service, on its way to the database, and requests that come late."""

import time
from collections.abc import Sequence

import httpx2

from tests.faults import log
from tests.faults.cluster import TOKEN
from tests.faults.log import Op
from tests.faults.stage import Stage

REPLAYS = 40
LOOKS_FOR_PREDECESSORS = 20
REPLAYS_OF_ONE = 5


def cut_connections(stage: Stage) -> str:
    for _ in range(5):
        for worker in stage.cluster.workers:
            worker.proxy.cut()
        time.sleep(stage.chance.uniform(0, 0.3))
    return "all"


def refuse_connections(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.refusing = True
        worker.proxy.cut()
    time.sleep(stage.chance.uniform(0.3, 1.5))
    return _healed(stage)


def delay(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.delay_s = 0.4
    time.sleep(3)
    return _healed(stage)


def send_twice(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.twice = 0.5
    time.sleep(4)
    return _healed(stage)


def lose_answers(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.losing = 0.25
    time.sleep(3)
    return _healed(stage)


def partition_briefly(stage: Stage) -> str:
    """Shorter than the lease."""
    worker = stage.worker()
    worker.proxy.black_hole = True
    time.sleep(stage.chance.uniform(0.3, 1.0))
    worker.proxy.heal()
    return worker.member.name


def partition_worker(stage: Stage) -> str:
    """Longer than the lease; what it sent meanwhile arrives when this ends."""
    worker = stage.worker()
    worker.proxy.black_hole = True
    stage.until_passed_on(worker)
    worker.proxy.heal()
    return worker.member.name


def partition_everyone(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.black_hole = True
    time.sleep(stage.chance.uniform(2, 4))
    return _healed(stage)


def _healed(stage: Stage) -> str:
    for worker in stage.cluster.workers:
        worker.proxy.heal()
    return "all"


def cut_database(stage: Stage) -> str:
    for _ in range(3):
        stage.chance.choice(stage.cluster.database_links).cut()
        time.sleep(stage.chance.uniform(0, 0.4))
    return "link"


def hang_database(stage: Stage) -> str:
    """It accepts, and never answers."""
    link = stage.chance.choice(stage.cluster.database_links)
    link.black_hole = True
    time.sleep(stage.chance.uniform(1, 8))
    link.heal()
    return "link"


def lose_commits(stage: Stage) -> str:
    """The answer of a COMMIT is lost, among others."""
    for link in stage.cluster.database_links:
        link.losing = 0.03
    time.sleep(3)
    for link in stage.cluster.database_links:
        link.heal()
    return "links"


def replay_late(stage: Stage) -> str:
    """Requests of the past, to any replica, by whoever kept them."""
    kept = [op for op in log.read(stage.cluster.journals) if _is_worth_repeating(op)]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client(headers=headers, timeout=15, trust_env=False) as http:
        for op in stage.chance.sample(kept, min(REPLAYS, len(kept))):
            _replay(stage, http, op)
        for _ in range(LOOKS_FOR_PREDECESSORS):
            _replay_predecessors(stage, http, kept)
            time.sleep(0.1)
    return "all"


def _is_worth_repeating(op: Op) -> bool:
    if op.verb == "claim":
        return op.ending == "ok" and bool(op.answer)
    return op.lease is not None


def _replay_predecessors(stage: Stage, http: httpx2.Client, kept: Sequence[Op]) -> None:
    """What was said of trials by those who held them before those who hold them now."""
    rows = stage.cluster.rows(
        """SELECT a.lease_id FROM trimtab.attempts a JOIN trimtab.trials t USING (trial_id, kind, seed_index)
           WHERE t.state = 'running' AND t.lease_id <> a.lease_id"""
    )
    leases = {str(row["lease_id"]) for row in rows}
    for op in [op for op in kept if op.lease in leases][-REPLAYS_OF_ONE:]:
        _replay(stage, http, op)


def _replay(stage: Stage, http: httpx2.Client, op: Op) -> None:
    ports = stage.cluster.service_ports()
    if not ports:
        return
    noted = stage.ghost.invoke(op.method, op.path, op.body)
    address = f"http://127.0.0.1:{stage.chance.choice(ports)}{op.path}"
    try:
        response = http.request(op.method, address, json=op.body)
        answer = response.json() if "json" in response.headers.get("content-type", "") else None
        stage.ghost.answered(noted, response.status_code, answer)
    except (httpx2.TransportError, ValueError) as error:
        stage.ghost.unanswered(noted, type(error).__name__)
