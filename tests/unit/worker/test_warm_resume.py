"""A trial that was put aside goes on where its state lies: without a download on the machine that trained it last."""

from pathlib import Path

from tests.support.agents import Start
from tests.support.leases import a_lease
from tests.support.scripted_service import ScriptedService
from tests.support.until import until
from trimtab.contract.leases import Checkpoint, Lease
from worker.agent import kept_copies


def put_aside_after(step: int, service: ScriptedService, root: Path) -> Lease:
    """Have the agent train a trial until it is paused; the lease under which it goes on."""
    service.verdicts[step] = "pause"
    service.give(a_lease(epochs=5))
    until(lambda: bool(marks(root)))
    service.verdicts.clear()
    recorded = service.of("checkpoint")[-1].body["checkpoint"]
    return a_lease(epochs=5, fence=2, resume=Checkpoint.model_validate(recorded))


def marks(root: Path) -> list[Path]:
    return list(root.rglob(kept_copies.MARK))


def test_the_agent_that_put_it_aside_fetches_nothing(
    service: ScriptedService, start: Start, tmp_path: Path
) -> None:
    start()
    again = put_aside_after(1, service, tmp_path)
    service.give(again)
    service.wait_for(lambda: bool(service.of("outcome")))
    assert service.of("download") == []
    assert service.steps(again) == [2, 3, 4]
    assert service.outcomes()[0]["kind"] == "completed"


def test_a_copy_that_was_harmed_meanwhile_is_fetched_anew(
    service: ScriptedService, start: Start, tmp_path: Path
) -> None:
    start()
    again = put_aside_after(1, service, tmp_path)
    assert again.resume is not None
    (copy,) = tmp_path.rglob(f"*{again.resume.sha256}.state")
    copy.write_bytes(b"harmed")
    service.give(again)
    service.wait_for(lambda: bool(service.of("outcome")))
    assert [call.about for call in service.of("download")] == [again.resume.sha256]
    assert service.steps(again) == [2, 3, 4]


def test_a_trial_that_goes_on_is_put_aside_no_more(
    service: ScriptedService, start: Start, tmp_path: Path
) -> None:
    start("hold@3")
    again = put_aside_after(1, service, tmp_path)
    service.give(again)
    service.wait_for(lambda: 2 in service.steps(again))
    assert marks(tmp_path) == []
    service.heartbeat_verdict = "cancel"
    service.wait_for(lambda: bool(service.of("outcome")))
