"""One attempt, with everything around it played by the test."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

from tests.support.leases import a_lease
from trimtab.contract.leases import Answer, Completed, Failed, Report, Reports
from worker.attempt import Attempt
from worker.inbox import Inbox, Said
from worker.memory import Memory
from worker.patience import KeptWaiting, Limits
from worker.pipe_messages import Ended, EpochDone, Order

PID = 7


class Runner:
    """Hears, and says nothing."""

    pid = PID

    def __init__(self) -> None:
        self.heard: list[Order] = []

    def send(self, order: Order) -> None:
        self.heard.append(order)

    def kill(self, why: Failed) -> None:
        raise AssertionError(why.message)


def test_while_it_speaks_with_the_service_its_runner_is_kept_waiting(tmp_path: Path) -> None:
    now = [0.0]

    def report(lease_id: UUID, reports: Reports) -> Answer:
        now[0] += 100
        return Answer(verdict="continue", ttl_s=60)

    lease, inbox, kept_waiting = a_lease(), Inbox(), KeptWaiting(lambda: now[0])
    client: Any = Mock(report=report)
    work = Attempt(
        lease,
        client=client,
        runner=Runner(),
        inbox=inbox,
        folder=tmp_path,
        teachers=tmp_path,
        limits=Limits(),
        memory=Memory(client),
        kept_waiting=kept_waiting,
        renewed=lambda ttl_s: None,
        welcome=lambda: None,
        clock=lambda: now[0],
    )
    client.memory.return_value.findings = ()
    inbox.put(Said(PID, EpochDone(lease_id=lease.lease_id, report=Report(step=0, value=0.5))))
    inbox.put(Said(PID, Ended(lease_id=lease.lease_id, outcome=Completed(value=0.5))))
    delivery = work.run()
    assert delivery is not None
    assert kept_waiting.seconds() == 100
