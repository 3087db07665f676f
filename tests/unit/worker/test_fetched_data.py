"""An attempt whose data set has an address: fetched before its runner begins, kept while it runs, and told in its record."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.data_server import tar_of
from tests.support.leases import a_lease
from tests.support.records import a_record
from tests.unit.worker.test_attempt import PID, Runner
from trimtab.contract import problems
from trimtab.contract.leases import Completed, Failed, Release, Verdict
from worker import disk_cache
from worker.agent.attempt import Attempt
from worker.agent.events import (
    DrainRequested,
    Event,
    EventQueue,
    RunnerMessage,
    VerdictReceived,
)
from worker.agent.memory_findings import Memory
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.fetching import origins
from worker.fetching.allowed import Allowed
from worker.fetching.store import Store
from worker.pipe_messages import Began, Ended, RunTrial

ARCHIVE = tar_of({"pets/cat/1.png": b"cat", "pets/dog/1.png": b"dog"})
SHA256 = sha256(ARCHIVE).hexdigest()
Played = Callable[[], None]


def a_client(content: bytes | problems.Problem) -> Mock:
    """A service that has an upload, or a reason why not."""

    @contextmanager
    def open_artifact(_: str) -> Generator[Iterator[bytes]]:
        if isinstance(content, problems.Problem):
            raise content
        yield iter([content])

    client = Mock(open_artifact=open_artifact)
    client.memory.return_value.findings = ()
    return client


def run(
    tmp_path: Path,
    client: Mock,
    *events: Event | Verdict,
    path: str = f"trimtab://{SHA256}",
    meanwhile: Played = lambda: None,
) -> tuple[Any, list[RunTrial]]:
    """Return how an attempt ended, and the orders that its runner got; `meanwhile` is called when it gets one."""
    task = {"kind": "classification", "dataset": {"kind": "image_folder", "path": path}}
    lease = a_lease(task=task)
    queue, runner = EventQueue(), Runner()
    for event in events:
        is_verdict = isinstance(event, str)
        queue.put(VerdictReceived(lease.lease_id, event) if is_verdict else event)

    def send(order: Any) -> None:
        runner.heard.append(order)
        if isinstance(order, RunTrial):
            meanwhile()
            queue.put(said(Began(lease_id=lease.lease_id, record=a_record())))
            done = Completed(value=0.5)
            queue.put(said(Ended(lease_id=lease.lease_id, outcome=done)))

    allowed = Allowed()
    work = Attempt(
        lease,
        client=client,
        runner=Mock(pid=PID, send=send, kill=runner.kill),
        events=queue,
        folder=tmp_path / "attempt",
        teachers=tmp_path / "teachers",
        store=Store(tmp_path / "cache", None, allowed, origins.of(allowed, client)),
        timeouts=Timeouts(),
        memory=Memory(client),
        busy_time=BusyTime(),
        renewed=lambda ttl_s: None,
        open_group=lambda: None,
    )
    delivery = work.run()
    assert delivery is not None
    return delivery.ending, [order for order in runner.heard if isinstance(order, RunTrial)]


def said(news: Began | Ended) -> RunnerMessage:
    return RunnerMessage(PID, news)


def test_the_runner_is_told_where_the_data_are_and_they_stay_while_it_runs(
    tmp_path: Path,
) -> None:
    client, cache = a_client(ARCHIVE), tmp_path / "cache"
    folder = cache / "fetched" / SHA256

    def collect() -> None:
        disk_cache.collect(cache, 0)
        assert (folder / "pets" / "cat" / "1.png").exists()

    ending, orders = run(tmp_path, client, meanwhile=collect)
    assert ending == Completed(value=0.5)
    assert orders[0].data == folder / "pets"
    (record,) = [call.args[1] for call in client.record.call_args_list]
    assert record.fetched.sha256 == SHA256
    disk_cache.collect(cache, 0)
    assert not folder.exists()


def test_data_that_the_service_no_longer_has_are_told_before_the_runner_begins(
    tmp_path: Path,
) -> None:
    ending, orders = run(tmp_path, a_client(problems.ArtifactNotFound()))
    assert isinstance(ending, Failed)
    assert (ending.error, ending.retryable, orders) == ("data_missing", True, [])
    assert "the service no longer has it" in (ending.message or "")


def test_an_address_that_is_not_allowed_is_told_before_the_runner_begins(
    tmp_path: Path,
) -> None:
    ending, orders = run(tmp_path, a_client(ARCHIVE), path="https://data.example.org/a.tar")
    assert isinstance(ending, Failed)
    assert (ending.error, orders) == ("data_missing", [])
    assert "TRIMTAB_WORKER_ADDRESSES" in (ending.message or "")


def test_an_archive_that_nobody_can_unpack_is_the_studys_fault(tmp_path: Path) -> None:
    content = ARCHIVE[:40]
    path = f"trimtab://{sha256(content).hexdigest()}"
    ending, _ = run(tmp_path, a_client(content), path=path)
    assert isinstance(ending, Failed)
    assert (ending.error, ending.retryable) == ("user_error", False)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (DrainRequested(), "drain"),
        ("pause", "paused"),
        ("cancel", "drain"),
    ],
)
def test_a_fetch_is_left_for_what_the_agent_hears_meanwhile(
    tmp_path: Path, event: Event | Verdict, reason: str
) -> None:
    ending, orders = run(tmp_path, a_client(ARCHIVE), event)
    assert isinstance(ending, Release)
    assert ending.reason == reason
    assert orders == []
