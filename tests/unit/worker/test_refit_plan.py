"""What a refit takes over from the trial that it repeats."""

from pathlib import Path

from tests.support.leases import a_lease
from trimtab.contract.leases import Lease
from worker import atomic_files
from worker.pipe_messages import MemberStates, RunTrial, SavedState
from worker.runner.refit_lease import RefitPlan, plan_of
from worker.training.device.threads import Threads
from worker.training.loop.state import FitState, Progress

KEPT = {"step": 2, "sha256": "0" * 64, "bytes": 9}


def a_refit(kind: str = "refit") -> Lease:
    member = {
        "trial_number": 0,
        "seed": 1,
        "hyperparameters": {},
        "recipe": {},
        "value": 0.5,
        "validated": KEPT,
    }
    return a_lease(kind=kind, members=[member])


def a_state(path: Path, weight: float) -> SavedState:
    progress = Progress(epochs=5, kept_epoch=2, adaptation_weight=weight)
    FitState(
        seed=0,
        optimizer="sgd",
        progress=progress,
        threads=Threads(1, 1),
        frozen_stages=0,
        frozen_sha256="",
        weights={},
        moments={},
        averages={},
    ).save(path)
    return SavedState(path=path, sha256=atomic_files.sha256_of(path), bytes=1, step=2)


def test_a_refit_trains_as_many_epochs_as_its_trial_has_kept() -> None:
    order = RunTrial(lease=a_refit(), folder=Path())
    assert plan_of(order) == RefitPlan(epochs=3)


def test_a_refit_takes_the_point_that_its_trial_has_kept(tmp_path: Path) -> None:
    states = MemberStates(validated=a_state(tmp_path / "state", 0.25))
    order = RunTrial(lease=a_refit(), folder=tmp_path, members=(states,))
    assert plan_of(order) == RefitPlan(epochs=3, adaptation_weight=0.25)


def test_a_state_that_is_harmed_tells_no_point(tmp_path: Path) -> None:
    state = a_state(tmp_path / "state", 0.25)
    state.path.write_text("harmed")
    order = RunTrial(lease=a_refit(), folder=tmp_path, members=(MemberStates(validated=state),))
    assert plan_of(order) == RefitPlan(epochs=3)


def test_a_trial_and_a_refit_that_was_told_nothing_train_all_epochs() -> None:
    for lease in (a_refit("trial"), a_lease(kind="refit")):
        assert plan_of(RunTrial(lease=lease, folder=Path())) == RefitPlan()
