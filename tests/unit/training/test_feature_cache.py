"""Features on disk: made once for everybody, never believed when damaged, and within their limit."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from worker.training.features.feature_cache import FeatureCache

VALUES = torch.arange(24, dtype=torch.bfloat16).view(4, 3, 2)


class Maker:
    """Makes the values, and counts how often."""

    def __init__(self, values: Tensor = VALUES) -> None:
        self.values = values
        self.times = 0

    def __call__(self) -> Tensor:
        self.times += 1
        return self.values


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]


def test_what_is_found_has_the_bits_of_what_was_made(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get("key", Maker())
    never = Maker()
    found = FeatureCache(tmp_path).get("key", never)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, VALUES)
    assert never.times == 0


def test_no_training_waits_until_features_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    FeatureCache(tmp_path).get("key", Maker())
    assert forced == []


def test_each_key_has_values_of_its_own(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.get("one", Maker())
    assert torch.equal(cache.get("other", Maker(VALUES + 1)), VALUES + 1)


def test_writing_to_found_values_changes_nobody_elses(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get("key", Maker()).zero_()
    assert torch.equal(FeatureCache(tmp_path).get("key", Maker()), VALUES)


def _flip(folder: Path) -> None:
    content = bytearray((folder / "values").read_bytes())
    content[5] ^= 1
    (folder / "values").write_bytes(content)


def _cut(folder: Path) -> None:
    (folder / "values").write_bytes((folder / "values").read_bytes()[:-1])


def _lie(folder: Path) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {"dtype": "nonsense"}))


def _lose(folder: Path) -> None:
    (folder / "values").unlink()


def _halve(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize("harm", [_flip, _cut, _lie, _lose, _halve])
def test_a_damaged_entry_is_made_again_and_whole_from_then_on(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    FeatureCache(tmp_path).get("key", Maker())
    harm(entries(tmp_path)[0])
    again = Maker()
    assert torch.equal(FeatureCache(tmp_path).get("key", again), VALUES)
    assert again.times == 1
    never = Maker()
    FeatureCache(tmp_path).get("key", never)
    assert never.times == 0


def test_the_longest_unused_entries_make_room_and_the_newest_stays(tmp_path: Path) -> None:
    size = 2 * VALUES.nbytes
    for number, key in enumerate(("old", "used", "third")):
        FeatureCache(tmp_path, limit_bytes=10_000).get(key, Maker())
        os.utime(
            max(entries(tmp_path), key=lambda path: path.stat().st_mtime), (number, number)
        )
    FeatureCache(tmp_path, limit_bytes=10_000).get("used", Maker())
    # Room for two: values and manifest of each.
    two = 2 * sum(file.stat().st_size for file in entries(tmp_path)[0].iterdir())
    FeatureCache(tmp_path, limit_bytes=two + size // 4).get("new", Maker())
    kept = {key: Maker() for key in ("new", "used", "old", "third")}
    for key, maker in kept.items():
        FeatureCache(tmp_path, limit_bytes=10_000).get(key, maker)
    assert {key: maker.times for key, maker in kept.items()} == {
        "new": 0,
        "used": 0,
        "old": 1,
        "third": 1,
    }


def test_what_is_larger_than_the_limit_by_itself_is_still_used(tmp_path: Path) -> None:
    assert torch.equal(FeatureCache(tmp_path, limit_bytes=1).get("key", Maker()), VALUES)


def test_on_a_disk_that_takes_nothing_features_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache, maker = FeatureCache(tmp_path / "file" / "below"), Maker()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(cache.get("key", maker), VALUES)
    assert "features stay in memory" in caplog.text
    cache.get("key", maker)
    assert maker.times == 1


def test_only_a_few_tensors_stay_mapped(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    first = cache.get("0", Maker())
    assert cache.get("0", Maker()) is first
    for number in range(1, 6):
        cache.get(str(number), Maker())
    assert cache.get("0", Maker()) is not first
