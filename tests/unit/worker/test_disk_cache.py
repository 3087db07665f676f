"""The cache keeps its bound: the longest unused goes first, and what somebody uses stays."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from tests.support.workers import REPOSITORY
from worker import disk_cache

NOW = 1_000_000


def an_entry(root: Path, name: str, size: int, used_at: int) -> Path:
    path = root / name
    path.mkdir(parents=True)
    (path / "values").write_bytes(bytes(size))
    disk_cache.note_use(path)
    os.utime(path.with_name(f".{path.name}.used"), (used_at, used_at))
    return path


@pytest.fixture
def entries(tmp_path: Path) -> list[Path]:
    """Three of a thousand bytes each, in three rooms, the longest unused first."""
    rooms = ["features/a", "data/b", "fetched/c"]
    return [an_entry(tmp_path, name, 1000, NOW + place) for place, name in enumerate(rooms)]


def left(entries: list[Path]) -> list[str]:
    return [path.name for path in entries if path.exists()]


@pytest.mark.parametrize(
    ("limit", "need", "stay", "over"),
    [
        (3000, 0, ["a", "b", "c"], 0),
        (2999, 0, ["b", "c"], 0),
        (3000, 1, ["b", "c"], 0),
        (3000, 2500, [], 0),
        (3000, 3001, [], 1),
    ],
)
def test_the_longest_unused_make_room_in_all_rooms(
    tmp_path: Path, entries: list[Path], limit: int, need: int, stay: list[str], over: int
) -> None:
    assert disk_cache.collect(tmp_path, limit, need=need) == over
    assert left(entries) == stay


def test_what_is_used_again_is_the_last_to_go(tmp_path: Path, entries: list[Path]) -> None:
    disk_cache.note_use(entries[0])
    disk_cache.collect(tmp_path, 1000)
    assert left(entries) == ["a"]


def test_what_is_held_stays_until_it_is_released(tmp_path: Path, entries: list[Path]) -> None:
    hold = disk_cache.hold(entries[0])
    assert disk_cache.collect(tmp_path, 500) == 500
    assert left(entries) == ["a"]
    hold.release()
    assert disk_cache.collect(tmp_path, 500) == 0
    assert left(entries) == []


def test_what_another_process_holds_stays_until_it_is_gone(
    tmp_path: Path, entries: list[Path]
) -> None:
    script = "import sys; from pathlib import Path; from worker import disk_cache\n"
    script += (
        "kept = disk_cache.hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(entries[0])],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        disk_cache.collect(tmp_path, 0)
        assert left(entries) == ["a"]
        other.kill()
    disk_cache.collect(tmp_path, 0)
    assert left(entries) == []


def test_while_a_room_is_opened_nothing_of_it_goes(tmp_path: Path, entries: list[Path]) -> None:
    with disk_cache.opening(tmp_path / "data"):
        disk_cache.collect(tmp_path, 0)
        assert left(entries) == ["b"]
    disk_cache.collect(tmp_path, 0)
    assert left(entries) == []


def test_files_are_entries_and_what_a_killed_process_was_removing_is_removed(
    tmp_path: Path,
) -> None:
    facts = tmp_path / "data" / "facts" / "a.json"
    facts.parent.mkdir(parents=True)
    facts.write_bytes(bytes(1000))
    half_gone = tmp_path / "data" / ".b.gone"
    half_gone.mkdir()
    disk_cache.collect(tmp_path, 1000)
    assert facts.exists()
    assert not half_gone.exists()
    disk_cache.collect(tmp_path, 999)
    assert not facts.exists()


def test_without_a_bound_a_full_disk_takes_what_was_not_used_lately(
    tmp_path: Path, entries: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_cache.note_use(entries[2])
    for free, stay in ((10**10, ["a", "b", "c"]), (10**10 - 1, ["b", "c"]), (0, ["c"])):
        usage = SimpleNamespace(total=10**12, free=free)
        monkeypatch.setattr(disk_cache.shutil, "disk_usage", Mock(return_value=usage))
        disk_cache.collect(tmp_path, None)
        assert left(entries) == stay
