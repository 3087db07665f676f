"""An attempt at a refit: like one at a trial, but nothing is compared by its epochs, and none is reported."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock
from uuid import uuid4

import pytest

from tests.support.leases import a_lease
from tests.support.records import a_record
from tests.unit.worker.test_attempt import PID, Runner
from trimtab.contract import problems
from trimtab.contract.leases import Completed, Failed, Release, Report
from worker import atomic_files
from worker.agent import uploads
from worker.agent.attempt import Attempt
from worker.agent.events import Event, EventQueue, RunnerMessage, VerdictReceived
from worker.agent.memory_findings import Memory
from worker.agent.spool import Delivery
from worker.agent.stall_detector import BusyTime, Timeouts
from worker.fetching.allowed import Allowed
from worker.fetching.store import Store
from worker.pipe_messages import (
    Began,
    Ended,
    EpochDone,
    News,
    SavedState,
    Steer,
    StoredFile,
)

LEASE = a_lease(kind="refit", trial_number=4)
ID = LEASE.lease_id


@pytest.fixture(autouse=True)
def _uploads_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(uploads, "is_due", always)


def an_attempt(
    client: Mock, folder: Path, *events: Event, runner: Runner | None = None
) -> Attempt:
    client.memory.return_value.findings = ()
    queue = EventQueue()
    for event in events:
        queue.put(event)
    return Attempt(
        LEASE,
        client=client,
        runner=runner or Runner(),
        events=queue,
        folder=folder,
        teachers=folder,
        store=Store(folder, None, Allowed(), {}),
        timeouts=Timeouts(),
        memory=Memory(client),
        busy_time=BusyTime(),
        renewed=lambda ttl_s: None,
        open_group=lambda: None,
        clock=lambda: 0.0,
    )


def said(news: News) -> RunnerMessage:
    return RunnerMessage(PID, news)


def a_state(folder: Path, step: int) -> SavedState:
    path = folder / f"state-{step}"
    path.write_text(str(step))
    return SavedState(path=path, sha256=atomic_files.sha256_of(path), bytes=1, step=step)


def an_epoch(step: int, state: SavedState) -> RunnerMessage:
    report = Report(step=step, value=0.3)
    return said(EpochDone(lease_id=ID, report=report, newest=state, best=state))


BEGAN = said(Began(lease_id=ID, record=a_record()))


def test_a_refit_reports_no_epoch_and_stores_its_states(tmp_path: Path) -> None:
    client, state, runner = Mock(), a_state(tmp_path, 0), Runner()
    done = said(Ended(lease_id=ID, outcome=Completed(value=0.2), newest=state, best=state))
    work = an_attempt(client, tmp_path, BEGAN, an_epoch(0, state), done, runner=runner)
    delivery = work.run()
    assert delivery is not None
    client.record.assert_called_once()
    client.report.assert_not_called()
    assert delivery.reports == ()
    client.upload.assert_called_once_with(state.path, state.sha256)
    assert delivery.checkpoint is not None
    assert delivery.checkpoint.best == state.checkpoint()
    assert [order.verdict for order in runner.heard if isinstance(order, Steer)] == ["continue"]
    assert work.name == "digits/4 (refit)"


def test_a_heartbeats_verdict_is_obeyed_at_the_next_epoch(tmp_path: Path) -> None:
    state, runner = a_state(tmp_path, 0), Runner()
    cancelled = said(Ended(lease_id=ID, outcome=Failed(error="cancelled")))
    events = (BEGAN, VerdictReceived(ID, "cancel"), an_epoch(0, state), cancelled)
    an_attempt(Mock(), tmp_path, *events, runner=runner).run()
    heard = [(each.verdict, each.step) for each in runner.heard if isinstance(each, Steer)]
    assert heard == [("cancel", None), ("cancel", 0)]


def played_while_the_record_waits(
    folder: Path, record: Callable[..., None]
) -> tuple[Mock, Delivery]:
    state = a_state(folder, 0)
    client = Mock(record=Mock(side_effect=record))
    released = said(Ended(lease_id=ID, outcome=None, newest=state, best=state))
    delivery = an_attempt(client, folder, BEGAN, an_epoch(0, state), released).run()
    assert delivery is not None
    assert delivery.ending == Release(reason="drain")
    return client, delivery


def test_a_record_that_was_not_stored_is_sent_with_the_outcome_and_no_state_before_it(
    tmp_path: Path,
) -> None:
    def away(*_: object) -> None:
        raise problems.Unreachable

    client, delivery = played_while_the_record_waits(tmp_path, away)
    client.upload.assert_not_called()
    assert delivery.record is not None


def test_a_record_is_sent_again_with_the_next_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [problems.Unreachable(), None]

    def once_away(*_: object) -> None:
        if (problem := answers.pop(0)) is not None:
            raise problem

    # The service is asked again at once, instead of after a while.
    monkeypatch.setattr("worker.agent.backoff.Backoff.next", Mock(return_value=0.0))
    client, delivery = played_while_the_record_waits(tmp_path, once_away)
    assert client.record.call_count == 2
    assert delivery.record is None
    client.upload.assert_called_once()


def test_of_other_data_than_the_studys_nothing_is_stored(tmp_path: Path) -> None:
    state = a_state(tmp_path, 0)
    client = Mock(record=Mock(side_effect=problems.DataChanged("61 pictures")))
    cancelled = said(Ended(lease_id=ID, outcome=Failed(error="cancelled")))
    work = an_attempt(client, tmp_path, BEGAN, an_epoch(0, state), cancelled)
    assert work.run() is None
    client.upload.assert_not_called()


def test_both_models_of_a_final_lease_are_delivered(tmp_path: Path) -> None:
    models = tuple(StoredFile(path=tmp_path / name, sha256=name * 64, bytes=1) for name in "ab")
    outcome = Completed(value=0.9, model_sha256="a" * 64, validated_sha256="b" * 64)
    lease_id = uuid4()
    work = an_attempt(
        Mock(), tmp_path, said(Ended(lease_id=lease_id, outcome=outcome, models=models))
    )
    work.lease = a_lease(kind="final", lease_id=str(lease_id))
    delivery = work.run()
    assert delivery is not None
    assert delivery.files == models
