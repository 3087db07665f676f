"""The soak's runner takes company, so that its workers hold several leases."""

from pathlib import Path
from uuid import UUID

from tests.support.leases import a_lease
from worker.agent import runner_process
from worker.agent.events import EventQueue, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Began, EpochDone, RunTrial

WITHIN_S = 60.0


def test_a_second_trial_trains_while_the_first_waits_for_its_verdict(tmp_path: Path) -> None:
    events = EventQueue()
    runner = RunnerProcess(
        runner_process.command("tests.support.scripted_runner", ("--by-chance",)), events.put
    )
    leases = [a_lease(trial_number=number) for number in range(2)]
    open_group, waiting = set[UUID](), set[UUID]()
    try:
        for lease in leases:
            folder = tmp_path / str(lease.lease_id)
            runner.send(RunTrial(lease=lease, folder=folder))
        while len(waiting) < len(leases):
            match events.get(WITHIN_S):
                case RunnerMessage(news=Began(lease_id=lease_id, may_group=True)):
                    open_group.add(lease_id)
                case RunnerMessage(news=EpochDone(lease_id=lease_id)):
                    waiting.add(lease_id)
                case event:
                    assert isinstance(event, RunnerMessage), event
    finally:
        runner.close()
    assert open_group == waiting == {lease.lease_id for lease in leases}
