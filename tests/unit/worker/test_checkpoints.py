import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.leases import a_lease
from tests.unit.worker.mortal_disk import dying_after
from trimtab.contract.leases import Checkpoint
from worker import checkpoints
from worker.pipe_messages import SavedState


def content(step: int) -> bytes:
    return f"state after {step}".encode()


def fill(step: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content(step))

    return write


def saved(folder: Path, *steps: int, best: SavedState | None = None) -> list[SavedState]:
    return [checkpoints.save(folder, step, fill(step), best=best) for step in steps]


def kept_steps(folder: Path) -> list[int]:
    return [state.step for state in checkpoints.states(folder)]


def test_the_newest_two_states_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 0, 1, 2, 3)
    assert kept_steps(tmp_path) == [3, 2]


def test_the_best_state_is_kept_however_old(tmp_path: Path) -> None:
    (best,) = saved(tmp_path, 0)
    saved(tmp_path, 1, 2, 3, best=best)
    assert kept_steps(tmp_path) == [3, 2, 0]


def test_a_best_state_written_late_is_not_swept_away_by_its_own_age(tmp_path: Path) -> None:
    saved(tmp_path, 5, 6)
    (best,) = saved(tmp_path, 3)
    assert best.path.exists()


@given(steps=st.integers(0, 12))
def test_a_saver_killed_at_any_point_leaves_only_whole_states(
    tmp_path_factory: pytest.TempPathFactory, steps: int
) -> None:
    folder = tmp_path_factory.mktemp("trial") / "000001"
    saved(folder, 0, 1)
    with dying_after(steps):
        saved(folder, 2, 3)
    states = checkpoints.states(folder)
    assert states
    for state in states:
        assert state.path.read_bytes() == content(state.step)
        assert checkpoints.is_whole(state)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_state_that_was_harmed_is_never_offered(tmp_path: Path, harm: str) -> None:
    (state,) = saved(tmp_path / "trial" / "000001", 4)
    match harm:
        case "flip":
            state.path.write_bytes(b"S" + content(4)[1:])
        case "cut":
            state.path.write_bytes(content(4)[:-1])
        case _:
            state.path.unlink()
    assert checkpoints.local_copy(state.path.parent, state.checkpoint()) is None


def test_a_state_of_an_earlier_attempt_on_this_machine_is_found(tmp_path: Path) -> None:
    (state,) = saved(tmp_path / "trial" / "000001", 4)
    found = checkpoints.local_copy(tmp_path / "trial" / "000002", state.checkpoint())
    assert found == state


def test_the_newest_whole_state_before_a_lost_one_is_fallen_back_on(tmp_path: Path) -> None:
    folder = tmp_path / "trial" / "000001"
    first, second = saved(folder, 3, 4)
    lost = Checkpoint(step=5, sha256="0" * 64, bytes=1)
    assert checkpoints.earlier(folder, lost) == second
    second.path.write_bytes(b"harmed")
    assert checkpoints.earlier(folder, lost) == first


def test_a_full_disk_is_cleared_of_older_states_and_tried_once_more(tmp_path: Path) -> None:
    saved(tmp_path, 0, 1)
    tries = 0

    def full_once(path: Path) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fill(2)(path)

    assert checkpoints.save(tmp_path, 2, full_once).step == 2
    assert kept_steps(tmp_path) == [2, 1]


def test_a_disk_that_stays_full_costs_no_state_that_was_there(tmp_path: Path) -> None:
    saved(tmp_path, 0)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, 1, full)
    assert kept_steps(tmp_path) == [0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".state"]


def test_another_study_of_the_same_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    one, other = a_lease(seed=1), a_lease(seed=2)
    assert (
        checkpoints.folder_of(tmp_path, one).parent
        != checkpoints.folder_of(tmp_path, other).parent
    )


def test_a_study_with_another_teacher_has_a_folder_of_its_own(tmp_path: Path) -> None:
    teacher = {"kind": "file", "path": "/large.safetensors"}
    one, other = a_lease(), a_lease(teacher=teacher)
    assert (
        checkpoints.folder_of(tmp_path, one).parent
        != checkpoints.folder_of(tmp_path, other).parent
    )


def test_two_attempts_at_one_trial_never_write_into_the_same_folder(tmp_path: Path) -> None:
    one, other = a_lease(fence=1), a_lease(fence=2)
    assert checkpoints.folder_of(tmp_path, one) != checkpoints.folder_of(tmp_path, other)
    assert (
        checkpoints.folder_of(tmp_path, one).parent
        == checkpoints.folder_of(tmp_path, other).parent
    )


def test_copies_that_nobody_touched_for_long_are_swept(tmp_path: Path) -> None:
    (old,) = saved(tmp_path / "old" / "000001", 0)
    (new,) = saved(tmp_path / "new" / "000001", 0)
    for path in (old.path.parent, old.path.parent.parent):
        os.utime(path, (1000, 1000))
    checkpoints.sweep(tmp_path, older_than=2000)
    assert not old.path.parent.parent.exists()
    assert new.path.exists()


def test_what_all_trials_take_of_the_disk_is_known(tmp_path: Path) -> None:
    assert checkpoints.disk_use(tmp_path / "nothing") == 0
    for trial in ("one", "other"):
        saved(tmp_path / trial / "000001", 0, 1, 2, 3)
    assert checkpoints.disk_use(tmp_path) == 2 * 2 * len(content(0))


def test_a_state_is_named_by_the_hash_that_its_writer_tells(tmp_path: Path) -> None:
    def hashed(path: Path) -> str:
        path.write_bytes(b"content")
        return "ab" * 32

    assert checkpoints.save(tmp_path, 0, hashed).sha256 == "ab" * 32
