"""Workers on a real cluster of Ray with two nodes: a study survives the death of one, and the actor is replaced."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from service.storage.engine import Database
from tests.support.documents import a_study_document
from tests.support.protocol_invariants import broken
from tests.support.until import until
from tests.support.workers import server_of
from trimtab.client import Client
from trimtab.contract.trials import Trial

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not in this Python: install the extra `ray`",
    ),
    # Ray's own.
    pytest.mark.filterwarnings("ignore"),
]

TRIALS = 6
PATIENCE_S = 240.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """A head without a GPU, and two nodes with one each, as processes of this machine."""
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "150")
    made = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0}
    )
    try:
        yield made
    finally:
        made.shutdown()


def launch(cluster: Any, client: Client, folder: Path, *options: str) -> str:
    """Run `trimtab worker launch --ray`; return what it printed."""
    command = [sys.executable, "-m", "trimtab.cli", "worker", "launch", "--ray"]
    given = ["--address", cluster.address, "--server", server_of(client), *options]
    own = ["--device", "cpu", "--threads", "1", "--cache-dir", str(folder / "cache")]
    done = subprocess.run(
        [*command, *given, "--", *own, "--exit-when-idle", "20"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def trials(client: Client) -> list[Trial]:
    return [client.trial("digits", one.number) for one in client.trials("digits").trials]


def reporting(client: Client) -> set[str]:
    """The labels of the workers whose trials report."""
    return {
        one.attempts[-1].worker
        for one in trials(client)
        if one.state == "running" and one.curve
    }


def registrations(client: Client) -> int:
    return len(client.workers().workers)


def test_a_study_over_two_nodes_loses_nothing_when_one_dies_and_its_actor_is_replaced(
    cluster: Any, client: Client, database: Database, tmp_path: Path
) -> None:
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    document = a_study_document(
        fixed={"epochs": 12}, budget={"trials": TRIALS}, lease_ttl_s=5.0
    )
    client.create_study(document)
    told = launch(cluster, client, tmp_path, "--workers", "2")
    assert "asked for ray-" in told
    until(lambda: len(reporting(client)) == 2, within_s=PATIENCE_S)
    cluster.remove_node(nodes[1], allow_graceful=False)
    cluster.add_node(num_cpus=1, num_gpus=1)
    # The actor of the node that died is started on the new one.
    until(lambda: registrations(client) == 3, within_s=PATIENCE_S)
    until(lambda: client.study("digits").state == "done", within_s=PATIENCE_S)
    ended = trials(client)
    assert [(one.number, one.state) for one in ended] == [
        (n, "completed") for n in range(TRIALS)
    ]
    for one in ended:
        assert [attempt.outcome for attempt in one.attempts].count("completed") == 1
    assert sum(len(one.attempts) for one in ended) > TRIALS, "a trial was interrupted"
    assert broken(database) == {}


def test_an_address_where_no_cluster_is_gets_one_line(client: Client, tmp_path: Path) -> None:
    class Nowhere:
        address = "127.0.0.1:9"

    with pytest.raises(AssertionError, match=r"no cluster of Ray answers at 127\.0\.0\.1:9"):
        launch(Nowhere, client, tmp_path)
