"""Decoded samples are removed when there is no room for them, but not those of a task that is being trained."""

from pathlib import Path

import pytest

from tests.support.pictures import folder_task, write_classes
from worker import disk_cache
from worker.data import TaskData, load, with_validation


def decoded(tmp_path: Path) -> set[str]:
    return {path.parent.name for path in (tmp_path / "cache" / "data").glob("*/train.npy")}


def loaded(tmp_path: Path, name: str, pictures: int) -> TaskData:
    folder = tmp_path / name
    if not folder.exists():
        write_classes(folder, {"cat": pictures, "dog": pictures})
    return load(folder_task(folder), cache_dir=tmp_path / "cache" / "data")


def test_what_is_trained_on_stays_and_what_was_goes(tmp_path: Path) -> None:
    before = loaded(tmp_path, "before", 10).key
    now = loaded(tmp_path, "now", 12)
    assert decoded(tmp_path) == {before, now.key}
    disk_cache.collect(tmp_path / "cache", 0)
    assert decoded(tmp_path) == {now.key}
    together = with_validation(now, tmp_path / "cache" / "data")
    disk_cache.collect(tmp_path / "cache", 0)
    assert decoded(tmp_path) == {now.key, f"{now.key}-merged"}
    del now, together
    disk_cache.collect(tmp_path / "cache", 0)
    assert decoded(tmp_path) == set()
    # What was removed is made anew.
    assert loaded(tmp_path, "before", 10).key == before


def test_the_longest_unused_of_two_data_sets_goes_first(tmp_path: Path) -> None:
    first = loaded(tmp_path, "first", 10).key
    second = loaded(tmp_path, "second", 12).key
    loaded(tmp_path, "first", 10)
    data = tmp_path / "cache" / "data"
    room = disk_cache.size_of(data / first) + disk_cache.size_of(data / "facts")
    disk_cache.collect(tmp_path / "cache", room)
    assert decoded(tmp_path) == {first}
    assert second != first


def test_a_cache_that_may_only_be_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = loaded(tmp_path, "pets", 10).key

    def refuse(*_: object) -> disk_cache.Hold:
        raise PermissionError

    monkeypatch.setattr(disk_cache, "hold", refuse)
    assert loaded(tmp_path, "pets", 10).key == key
