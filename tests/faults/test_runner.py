"""The soak's runner takes company, so that its workers hold several leases."""

from pathlib import Path
from uuid import UUID

from tests.support.leases import a_lease
from worker import runner_process
from worker.inbox import Inbox, Said
from worker.pipe_messages import Began, EpochDone, RunTrial
from worker.runner_process import RunnerProcess

WITHIN_S = 60.0


def test_a_second_trial_trains_while_the_first_waits_for_its_verdict(tmp_path: Path) -> None:
    inbox = Inbox()
    runner = RunnerProcess(
        runner_process.command("tests.support.scripted_runner", ("--by-chance",)), inbox.put
    )
    leases = [a_lease(trial_number=number) for number in range(2)]
    welcome, waiting = set[UUID](), set[UUID]()
    try:
        for lease in leases:
            folder = tmp_path / str(lease.lease_id)
            runner.send(RunTrial(lease=lease, folder=folder))
        while len(waiting) < len(leases):
            match inbox.get(WITHIN_S):
                case Said(news=Began(lease_id=lease_id, takes_company=True)):
                    welcome.add(lease_id)
                case Said(news=EpochDone(lease_id=lease_id)):
                    waiting.add(lease_id)
                case event:
                    assert isinstance(event, Said), event
    finally:
        runner.close()
    assert welcome == waiting == {lease.lease_id for lease in leases}
