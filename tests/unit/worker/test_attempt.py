"""One attempt, with everything around it played by the test."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest

from tests.support.leases import a_lease
from tests.support.records import a_record
from trimtab.contract import problems
from trimtab.contract.leases import Answer, Completed, Failed, Report, Reports
from worker import atomic_files
from worker.agent import uploads
from worker.agent.attempt import Attempt
from worker.agent.events import Event, EventQueue, LeaseRevoked, RunnerMessage
from worker.agent.memory_findings import Memory
from worker.agent.spool import Delivery
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.fetching.allowed import Allowed
from worker.fetching.store import Store
from worker.pipe_messages import Began, Ended, EpochDone, Order, SavedState

PID = 7


class Runner:
    """Hears, and says nothing."""

    pid = PID

    def __init__(self) -> None:
        self.heard: list[Order] = []
        self.killed: list[Failed] = []

    def send(self, order: Order) -> None:
        self.heard.append(order)

    def kill(self, why: Failed) -> None:
        self.killed.append(why)


def an_attempt(
    client: Any,
    events: EventQueue,
    folder: Path,
    now: list[float],
    *,
    opened: list[int] | None = None,
    **given: Any,
) -> Attempt:
    client.memory.return_value.findings = ()
    parts: dict[str, Any] = {
        "runner": Runner(),
        "busy_time": BusyTime(lambda: now[0]),
        **given,
    }
    return Attempt(
        a_lease(),
        client=client,
        events=events,
        folder=folder,
        teachers=folder,
        store=Store(folder, None, Allowed(), {}),
        timeouts=Timeouts(),
        memory=Memory(client),
        renewed=lambda ttl_s: None,
        open_group=lambda: None if opened is None else opened.append(1),
        clock=lambda: now[0],
        **parts,
    )


def test_while_it_speaks_with_the_service_its_runner_is_kept_waiting(tmp_path: Path) -> None:
    now = [0.0]

    def report(lease_id: UUID, reports: Reports) -> Answer:
        now[0] += 100
        return Answer(verdict="continue", ttl_s=60)

    events, busy_time = EventQueue(), BusyTime(lambda: now[0])
    work = an_attempt(Mock(report=report), events, tmp_path, now, busy_time=busy_time)
    lease_id = work.lease.lease_id
    events.put(
        RunnerMessage(PID, EpochDone(lease_id=lease_id, report=Report(step=0, value=0.5)))
    )
    events.put(RunnerMessage(PID, Ended(lease_id=lease_id, outcome=Completed(value=0.5))))
    delivery = work.run()
    assert delivery is not None
    assert busy_time.seconds() == 100


class Clock(EventQueue):
    """An inbox in which time passes whenever nothing has come."""

    def __init__(self, now: list[float], late: RunnerMessage) -> None:
        super().__init__()
        self._now, self._late = now, late

    def get(self, timeout_s: float) -> Event | None:
        event = super().get(0)
        if event is None:
            self._now[0] += min(timeout_s, 60)
            self.put(self._late)
        return event


@pytest.mark.parametrize("may_group", [False, True])
def test_a_lost_lease_in_company_does_not_cost_the_others_their_runner(
    tmp_path: Path, may_group: bool
) -> None:
    now, lease = [0.0], a_lease()
    ended = RunnerMessage(
        PID, Ended(lease_id=lease.lease_id, outcome=Failed(error="cancelled"))
    )
    events, runner = Clock(now, ended), Runner()
    work = an_attempt(Mock(), events, tmp_path, now, runner=runner)
    work.lease = lease
    began = Began(lease_id=lease.lease_id, record=a_record(), may_group=may_group)
    events.put(RunnerMessage(PID, began))
    events.put(LeaseRevoked(lease.lease_id, problems.LeaseLost()))
    assert work.run() is None
    assert bool(runner.killed) is not may_group


@pytest.fixture
def _uploads_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(uploads, "is_due", always)


def played(
    folder: Path, record: Any, *, upload: Any
) -> tuple[Delivery | None, list[int], list[int]]:
    """A group's lead that trains two epochs; its delivery, the steps told, and whether others could join."""
    now, told, opened = [0.0], list[int](), list[int]()

    def report(lease_id: UUID, reports: Reports) -> Answer:
        told.extend(one.step for one in reports.reports)
        return Answer(verdict="continue", ttl_s=60)

    events = EventQueue()
    client = Mock(record=record, report=report, upload=upload)
    work = an_attempt(client, events, folder, now, opened=opened)
    lease_id = work.lease.lease_id
    path = folder / "state"
    path.write_bytes(b"state")
    state = SavedState(path=path, sha256=atomic_files.sha256_of(path), bytes=5, step=0)
    events.put(RunnerMessage(PID, Began(lease_id=lease_id, record=a_record(), may_group=True)))
    for step in range(2):
        done = EpochDone(lease_id=lease_id, report=Report(step=step, value=0.5), newest=state)
        events.put(RunnerMessage(PID, done))
    events.put(RunnerMessage(PID, Ended(lease_id=lease_id, outcome=Completed(value=0.5))))
    return work.run(), told, opened


@pytest.mark.usefixtures("_uploads_are_due")
def test_of_other_data_than_the_studys_nothing_is_told_or_stored(tmp_path: Path) -> None:
    upload = Mock()
    refused = Mock(side_effect=problems.DataChanged("61 pictures instead of 60"))
    delivery, told, opened = played(tmp_path, refused, upload=upload)
    assert (delivery, told, opened) == (None, [], [])
    upload.assert_not_called()


@pytest.mark.usefixtures("_uploads_are_due")
def test_while_the_record_waits_all_else_waits_behind_it(tmp_path: Path) -> None:
    upload = Mock()
    delivery, told, opened = played(
        tmp_path, Mock(side_effect=problems.Unreachable()), upload=upload
    )
    assert delivery is not None
    assert (told, opened, [report.step for report in delivery.reports]) == ([], [], [0, 1])
    assert delivery.record == a_record()
    upload.assert_not_called()


@pytest.mark.usefixtures("_uploads_are_due")
def test_once_the_record_is_stored_others_may_join(tmp_path: Path) -> None:
    upload = Mock()
    delivery, told, opened = played(tmp_path, Mock(), upload=upload)
    assert delivery is not None
    upload.assert_called()
    assert (told, opened, delivery.record) == ([0, 1], [1], None)
