"""Which states of trials put aside stay on the machine."""

import os
from pathlib import Path

from tests.support.leases import a_lease
from worker import checkpoints
from worker.agent import kept_copies


def put_aside(root: Path, number: int, *, at: int, size: int = 1) -> Path:
    """Put a trial aside with one state; `at` is the time in seconds."""
    folder = checkpoints.folder_of(root, a_lease(trial_number=number))

    def fill(path: Path) -> None:
        path.write_bytes(bytes(size))

    checkpoints.save(folder, 0, fill)
    kept_copies.put_aside(folder)
    os.utime(folder.parent / kept_copies.MARK, (at, at))
    return folder


def test_the_latest_trials_put_aside_are_kept(tmp_path: Path) -> None:
    folders = [put_aside(tmp_path, number, at=100 - number) for number in range(4)]
    kept_copies.make_room(tmp_path, most=2)
    assert [folder.exists() for folder in folders] == [True, True, False, False]


def test_of_those_no_more_are_kept_than_their_bytes_allow(tmp_path: Path) -> None:
    folders = [put_aside(tmp_path, number, at=100 - number, size=10) for number in range(4)]
    kept_copies.make_room(tmp_path, most_bytes=29)
    assert [folder.exists() for folder in folders] == [True, True, False, False]


def test_the_latest_is_kept_however_large(tmp_path: Path) -> None:
    old, new = put_aside(tmp_path, 0, at=1), put_aside(tmp_path, 1, at=2, size=50)
    kept_copies.make_room(tmp_path, most_bytes=10)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_trial_that_runs_is_in_nobodys_way(tmp_path: Path) -> None:
    running = put_aside(tmp_path, 0, at=1)
    kept_copies.take_up(running)
    latest = put_aside(tmp_path, 1, at=2)
    kept_copies.make_room(tmp_path, most=1)
    assert running.exists()
    assert latest.exists()


def test_who_puts_a_trial_aside_makes_room(tmp_path: Path) -> None:
    first = put_aside(tmp_path, 0, at=1)
    for number in range(1, kept_copies.MOST + 1):
        put_aside(tmp_path, number, at=1 + number)
    assert not first.exists()
    assert len(list(tmp_path.iterdir())) == kept_copies.MOST


def test_an_attempt_that_left_no_file_has_nothing_to_keep(tmp_path: Path) -> None:
    folder = checkpoints.folder_of(tmp_path, a_lease())
    kept_copies.put_aside(folder)
    kept_copies.take_up(folder)
    assert not folder.parent.exists()
