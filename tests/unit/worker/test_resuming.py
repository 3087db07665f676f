import hashlib
from pathlib import Path

from tests.support.artifacts import Artifacts
from tests.support.leases import a_lease
from trimtab.contract.leases import Checkpoint
from worker import checkpoints
from worker.agent import resuming


def a_checkpoint(step: int) -> tuple[Checkpoint, bytes]:
    content = f"after {step}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    return Checkpoint(step=step, sha256=sha256, bytes=len(content)), content


def saved(folder: Path, step: int) -> None:
    def fill(path: Path) -> None:
        path.write_bytes(f"after {step}".encode())

    checkpoints.save(folder, step, fill)


def test_a_recorded_checkpoint_is_brought_here(tmp_path: Path) -> None:
    wanted, content = a_checkpoint(4)
    service = Artifacts({wanted.sha256: content})
    (state,) = resuming.fetch(
        a_lease(resume=wanted), tmp_path / "t" / "1", service, lambda _: True
    )
    assert (state.step, state.path.read_bytes()) == (4, content)


def test_a_copy_on_this_machine_needs_no_download(tmp_path: Path) -> None:
    wanted, _ = a_checkpoint(4)
    saved(tmp_path / "t" / "1", 4)
    (state,) = resuming.fetch(
        a_lease(resume=wanted), tmp_path / "t" / "2", Artifacts(), lambda _: True
    )
    assert state.step == 4


def test_a_lost_checkpoint_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    wanted, _ = a_checkpoint(4)
    saved(tmp_path / "t" / "1", 3)
    (state,) = resuming.fetch(
        a_lease(resume=wanted), tmp_path / "t" / "2", Artifacts(), lambda _: True
    )
    assert state.step == 3


def test_a_checkpoint_lost_by_the_service_is_replaced_by_the_one_before_it_there(
    tmp_path: Path,
) -> None:
    wanted, _ = a_checkpoint(4)
    previous, content = a_checkpoint(2)
    service = Artifacts({previous.sha256: content})
    lease = a_lease(resume=wanted, previous=previous.model_dump())
    (state,) = resuming.fetch(lease, tmp_path / "t" / "1", service, lambda _: True)
    assert (state.step, state.path.read_bytes()) == (2, content)


def test_a_final_evaluation_never_takes_another_epochs_weights(tmp_path: Path) -> None:
    wanted, _ = a_checkpoint(4)
    saved(tmp_path / "t" / "1", 3)
    lease = a_lease(kind="final", resume=wanted)
    assert resuming.fetch(lease, tmp_path / "t" / "2", Artifacts(), lambda _: True) == ()


def test_bytes_that_are_not_those_recorded_are_not_taken(tmp_path: Path) -> None:
    wanted, _ = a_checkpoint(4)
    service = Artifacts({wanted.sha256: b"other bytes"})
    lease = a_lease(resume=wanted)
    assert resuming.fetch(lease, tmp_path / "t" / "1", service, lambda _: True) == ()


def test_a_service_that_is_away_is_waited_for(tmp_path: Path) -> None:
    wanted, content = a_checkpoint(4)
    service = Artifacts({wanted.sha256: content}, absent_for=3)
    rests: list[float] = []

    def rest(seconds: float) -> bool:
        rests.append(seconds)
        return True

    (state,) = resuming.fetch(a_lease(resume=wanted), tmp_path / "t" / "1", service, rest)
    assert state.step == 4
    assert len(rests) == 3


def test_waiting_ends_when_it_is_told_to(tmp_path: Path) -> None:
    wanted, content = a_checkpoint(4)
    service = Artifacts({wanted.sha256: content}, absent_for=3)
    lease = a_lease(resume=wanted)
    assert resuming.fetch(lease, tmp_path / "t" / "1", service, lambda _: False) == ()


def a_member(
    validated: Checkpoint | None, refit: Checkpoint | None, *further: Checkpoint
) -> dict[str, object]:
    return {
        "trial_number": 1,
        "seed": 1,
        "hyperparameters": {},
        "recipe": {},
        "value": 0.5,
        "validated": None if validated is None else validated.model_dump(),
        "refit": None if refit is None else refit.model_dump(),
        "further_refits": [one.model_dump() for one in further],
    }


def test_the_states_of_a_final_leases_members_are_brought_in_their_order(
    tmp_path: Path,
) -> None:
    (one, first), (two, second), (three, _) = (a_checkpoint(step) for step in (3, 5, 7))
    service = Artifacts({one.sha256: first, two.sha256: second})
    lease = a_lease(
        kind="final",
        members=[a_member(one, two), a_member(three, one, three, two), a_member(two, None)],
    )
    found = resuming.fetch_members(lease, tmp_path / "t" / "1", service, lambda _: True)
    read = [
        [
            None if state is None else state.path.read_bytes()
            for state in (each.validated, *each.refits)
        ]
        for each in found
    ]
    # The second member's own state is lost, and one of its refits: the final evaluation goes on without them.
    assert read == [[first, second], [None, first, None, second], [second]]
    # A state that several need is brought once.
    assert service.downloads == 2


def test_who_has_to_leave_waits_for_no_further_member(tmp_path: Path) -> None:
    waits: list[float] = []

    def leave(seconds: float) -> bool:
        waits.append(seconds)
        return False

    wanted, _ = a_checkpoint(3)
    lease = a_lease(kind="final", members=[a_member(wanted, wanted)] * 3)
    service = Artifacts(absent_for=9)
    assert resuming.fetch_members(lease, tmp_path / "t" / "1", service, leave)
    assert len(waits) == 1


def test_a_refit_needs_its_trials_state_only_for_the_point_that_it_kept(tmp_path: Path) -> None:
    wanted, content = a_checkpoint(3)
    service = Artifacts({wanted.sha256: content})
    for grid, downloads in ((0, 0), (5, 1)):
        lease = a_lease(
            kind="refit",
            recipe={"adaptation_grid": grid},
            members=[a_member(wanted, None)],
        )
        resuming.fetch_members(lease, tmp_path / "t" / "1", service, lambda _: True)
        assert service.downloads == downloads
