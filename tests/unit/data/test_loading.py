"""From a task to its splits, through the cache of decoded pictures."""

import hashlib
import itertools
import os
import shutil
import tarfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import folder_task, hash_of, picture, write_classes
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.recipe import Resize
from trimtab.contract.tasks import Task
from worker import data
from worker.data import Seal, cache
from worker.data.errors import (
    CacheUnwritable,
    DataMissing,
    EmptyClass,
    NoClasses,
    SingleClass,
    UnknownClass,
    UnreadableImages,
)
from worker.data.images.digits import Digits
from worker.data.images.encoding import COMMON_SIDE
from worker.data.modality import Encoding, ImageSpec

PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "ants_bees.tar"
DIGITS = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))


def test_the_digits_are_shared_out_class_by_class(tmp_path: Path) -> None:
    digits = data.load(DIGITS, cache_dir=tmp_path)
    sealed = data.open_test(DIGITS, Seal("final"), cache_dir=tmp_path)
    assert digits.train.inputs.shape == (1079, 8, 8, 1)
    assert digits.train.inputs.dtype == np.uint8
    assert (len(digits.validation), len(sealed)) == (359, 359)
    assert digits.counts == {"train": 1079, "validation": 359, "test": 359}
    assert digits.classes == tuple("0123456789")
    assert np.bincount(sealed.labels).min() >= 34
    assert digits.train.inputs.max() == 255


def test_the_digits_keep_their_pixels(tmp_path: Path) -> None:
    from sklearn import datasets

    original = np.rint(cast(Any, datasets.load_digits()).images * 255 / 16).astype(np.uint8)
    digits = data.load(DIGITS, cache_dir=tmp_path)
    parts = [
        digits.train,
        digits.validation,
        data.open_test(DIGITS, Seal("final"), cache_dir=tmp_path),
    ]
    stored = sorted(image.tobytes() for part in parts for image in part.inputs)
    assert stored == sorted(image.tobytes() for image in original)


def test_the_split_is_that_of_the_data_on_every_machine(tmp_path: Path) -> None:
    one = data.load(DIGITS, cache_dir=tmp_path / "a")
    other = data.load(DIGITS, cache_dir=tmp_path / "b")
    assert np.array_equal(one.validation.inputs, other.validation.inputs)
    assert one.split_sha256 == other.split_sha256


def _places(task: Task, cache_dir: Path) -> dict[bytes, str]:
    """The split of each picture, by its content."""
    loaded = data.load(task, cache_dir=cache_dir)
    sealed = data.open_test(task, Seal("final"), cache_dir=cache_dir)
    parts = {"train": loaded.train, "validation": loaded.validation, "test": sealed}
    return {image.tobytes(): name for name, part in parts.items() for image in part.inputs}


def _moved(before: Mapping[bytes, str], after: Mapping[bytes, str]) -> int:
    assert before
    return sum(after.get(content, part) != part for content, part in before.items())


def test_a_changed_data_set_keeps_its_splits_but_for_a_few_pictures(tmp_path: Path) -> None:
    root = tmp_path / "noise"
    write_classes(root, {"a": 60, "b": 60}, mode="L")
    task = folder_task(root)
    first = _places(task, tmp_path / "c")
    picture(7, mode="L").save(root / "a/more.png")
    more = _places(task, tmp_path / "c")
    assert (len(first), len(more)) == (120, 121)
    assert _moved(first, more) <= 3
    for path in sorted((root / "a").iterdir()):
        path.rename(path.with_name(f"{hash_of(path.name)}.png"))
    renamed = _places(task, tmp_path / "c")
    assert renamed == more
    (root / "b/010.png").rename(root / "a/from-b.png")
    relabelled = _places(task, tmp_path / "c")
    assert _moved(renamed, relabelled) <= 7  # the picture itself, and three of each class


def test_a_file_that_goes_bad_moves_few_others_and_its_removal_none(tmp_path: Path) -> None:
    root = tmp_path / "noise"
    write_classes(root, {"a": 30, "b": 30}, mode="L")
    task = folder_task(root).model_copy(update={"on_bad_file": "skip"})
    whole = _places(task, tmp_path / "c")
    for number in (3, 11, 20):
        before = _places(task, tmp_path / "c")
        path = root / f"a/{number:03}.png"
        path.write_bytes(path.read_bytes()[:90])
        assert _moved(before, _places(task, tmp_path / "c")) <= 3
    left = _places(task, tmp_path / "c")
    assert len(left) == len(whole) - 3
    for number in (3, 11, 20):
        (root / f"a/{number:03}.png").unlink()
    assert _places(task, tmp_path / "c") == left


def test_few_shots_stay_the_same_when_the_data_set_grows(tmp_path: Path) -> None:
    root = tmp_path / "noise"
    write_classes(root, {"a": 60, "b": 60}, mode="L")
    few: list[set[bytes]] = []
    for number in range(6):
        loaded = data.load(folder_task(root), cache_dir=tmp_path / "c", few=20).train
        assert loaded.rows is not None
        few.append({image.tobytes() for image in loaded.inputs[loaded.rows]})
        picture(number, mode="L").save(root / f"a/more-{number}.png")
    # One picture moves in at most, and as many as train lost to validation.
    assert all(len(old - new) <= 3 for old, new in itertools.pairwise(few))


def test_a_filled_cache_does_without_decoding_and_without_scikit_learn(tmp_path: Path) -> None:
    data.load(DIGITS, cache_dir=tmp_path)
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_load_and_look_for_sklearn, (tmp_path,)) == (1079, False)


def _load_and_look_for_sklearn(cache_dir: Path) -> tuple[int, bool]:
    import sys

    return len(data.load(DIGITS, cache_dir=cache_dir).train), "sklearn" in sys.modules


def test_what_trains_never_opens_the_sealed_split(tmp_path: Path) -> None:
    data.load(DIGITS, cache_dir=tmp_path)
    for path in tmp_path.glob("*/test*.npy"):
        path.unlink()
    assert len(data.load(DIGITS, cache_dir=tmp_path).train) == 1079
    with pytest.raises(FileNotFoundError):
        data.open_test(DIGITS, Seal("final"), cache_dir=tmp_path)


def test_writing_to_a_split_changes_nobody_elses(tmp_path: Path) -> None:
    ours = data.load(DIGITS, cache_dir=tmp_path).train.inputs
    ours[:] = 7
    assert data.load(DIGITS, cache_dir=tmp_path).train.inputs.max() == 255


def test_a_folder_of_classes_is_split_by_the_shares(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 10, "dog": 10})
    pets = data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "cache")
    assert pets.classes == ("cat", "dog")
    assert pets.counts == {"train": 12, "validation": 4, "test": 4}
    assert pets.train.inputs.shape == (12, 12, 12, 3)
    assert pets.notes == ()


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_train_val_and_test_folders_are_the_splits(tmp_path: Path, name: str) -> None:
    root = tmp_path / "pets"
    write_classes(root / "train", {"cat": 4, "dog": 4})
    write_classes(root / name, {"cat": 2, "dog": 1})
    write_classes(root / "test", {"dog": 3})
    pets = data.load(folder_task(root), cache_dir=tmp_path / "cache")
    assert pets.counts == {"train": 8, "validation": 3, "test": 3}
    sealed = data.open_test(folder_task(root), Seal("final"), cache_dir=tmp_path / "cache")
    assert sealed.labels.tolist() == [1, 1, 1]
    expected = np.asarray(Image.open(root / "test/dog/001.png"))
    assert np.array_equal(sealed.inputs[1], expected)


def test_train_and_val_alone_seal_a_part_of_train_and_say_so(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    write_classes(root / "train", {"cat": 10, "dog": 10})
    write_classes(root / "val", {"cat": 2, "dog": 2})
    pets = data.load(folder_task(root), cache_dir=tmp_path / "cache")
    assert pets.counts == {"train": 16, "validation": 4, "test": 4}
    assert "no test split" in pets.notes[0]


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "vehicles", {"train": 5, "car": 5})
    vehicles = data.load(folder_task(tmp_path / "vehicles"), cache_dir=tmp_path / "cache")
    assert vehicles.classes == ("car", "train")


def test_pictures_of_unlike_sizes_get_a_common_one(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    picture(size=(40, 30)).save(tmp_path / "pets/cat/odd.png")
    task = folder_task(tmp_path / "pets")
    assert data.load(task, cache_dir=tmp_path / "c").train.inputs.shape[1:] == (
        COMMON_SIDE,
    ) * 2 + (3,)
    sized = data.load(task, cache_dir=tmp_path / "c", wanted=ImageSpec(20))
    assert sized.train.inputs.shape[1:] == (20, 20, 3)


def test_each_way_to_make_pictures_square_has_a_cache_of_its_own(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    picture(size=(40, 12)).save(tmp_path / "pets/cat/odd.png")
    task = folder_task(tmp_path / "pets")
    ways: list[Resize] = ["crop", "squash", "pad", "crop"]
    loaded = [
        data.load(task, cache_dir=tmp_path / "c", wanted=ImageSpec(12, way)) for way in ways
    ]
    stored = [
        {
            image.tobytes()
            for part in (
                each.train,
                each.validation,
                data.open_test(
                    task, Seal("final"), cache_dir=tmp_path / "c", wanted=ImageSpec(12, way)
                ),
            )
            for image in part.inputs
        }
        for way, each in zip(ways, loaded, strict=True)
    ]
    assert len({each.key for each in loaded}) == 3
    assert loaded[0].key == loaded[3].key
    assert [len(stored[0] & other) for other in stored] == [9, 8, 8, 9]


def test_twelve_bits_in_files_of_sixteen_keep_their_levels_of_grey(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(4):
            values = random.integers(0, 4096, (12, 12), dtype=np.uint16)
            values[0, :2] = (0, 4095)
            Image.fromarray(values).save(tmp_path / f"scans/{name}/{number}.png")
    loaded = data.load(folder_task(tmp_path / "scans"), cache_dir=tmp_path / "c")
    assert loaded.train.inputs.shape[1:] == (12, 12, 1)
    assert loaded.train.inputs[:, 0, :2, 0].tolist() == [[0, 255]] * len(loaded.train)
    assert len(np.unique(loaded.train.inputs)) > 200
    assert loaded.details["levels"] == [0, 4095]
    told = "pictures of more than 8 bits a pixel: 8; in them 0 is black and 4095 is white"
    assert loaded.notes == (told,)


def test_grey_pictures_keep_one_channel_unless_one_is_coloured(tmp_path: Path) -> None:
    write_classes(tmp_path / "scans", {"a": 4, "b": 4}, mode="L")
    task = folder_task(tmp_path / "scans")
    assert data.load(task, cache_dir=tmp_path / "c").train.inputs.shape[3] == 1
    picture().save(tmp_path / "scans/a/colour.png")
    assert data.load(task, cache_dir=tmp_path / "c").train.inputs.shape[3] == 3


def test_a_changed_picture_is_decoded_again(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    task = folder_task(tmp_path / "pets")
    before = data.load(task, cache_dir=tmp_path / "c")
    path = tmp_path / "pets/cat/000.png"
    picture(99).save(path)
    os.utime(path, ns=(1, 1))
    after = data.load(task, cache_dir=tmp_path / "c")
    assert after.sha256 != before.sha256


def test_the_hash_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    shutil.copytree(tmp_path / "pets", tmp_path / "moved")
    here = data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "c")
    there = data.load(folder_task(tmp_path / "moved"), cache_dir=tmp_path / "c")
    assert here.sha256 == there.sha256


def test_processes_that_begin_together_share_one_cache(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 30, "dog": 30})
    with get_context("spawn").Pool(3) as pool:
        counts = pool.starmap(_load, [(tmp_path,)] * 3)
    assert counts == [36] * 3
    assert (
        len([path for path in (tmp_path / "c").iterdir() if (path / "manifest.json").exists()])
        == 1
    )
    assert not list((tmp_path / "c").glob(".*/manifest.json"))


def _load(root: Path) -> int:
    return len(data.load(folder_task(root / "pets"), cache_dir=root / "c").train)


def test_whoever_comes_while_a_folder_is_being_filled_waits_for_it(tmp_path: Path) -> None:
    fills: list[Path] = []
    everybody = threading.Barrier(4)

    def fill(folder: Path) -> None:
        fills.append(folder)
        (folder / "data").write_text("whole")

    def ask(_: int) -> str:
        everybody.wait()
        return (cache.folder_once(tmp_path / "a", fill) / "data").read_text()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["whole"] * 4
    assert len(fills) == 1


def test_a_fill_that_was_cut_short_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    broken = tmp_path / "pets/dog/000.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    task = folder_task(tmp_path / "pets")
    with pytest.raises(UnreadableImages):
        data.load(task, cache_dir=tmp_path / "c")
    broken.write_bytes(content)
    assert data.load(task, cache_dir=tmp_path / "c").counts["train"] == 4


def test_what_a_killed_fill_left_behind_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".a.part").mkdir(parents=True)
    (tmp_path / ".a.part" / "half").touch()
    folder = cache.folder_once(tmp_path / "a", lambda beside: (beside / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert not (tmp_path / ".a.part").exists()


def test_decoded_pictures_are_on_the_disk_before_they_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_before: list[bool] = []

    def sync(_: int) -> None:
        shown_before.append((tmp_path / "a").exists())

    monkeypatch.setattr(os, "fsync", sync)
    cache.folder_once(tmp_path / "a", lambda beside: (beside / "whole").touch())
    assert shown_before == [False]


def test_every_unreadable_picture_is_named_with_its_reason(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    (tmp_path / "pets/cat/text.jpg").write_text("no picture")
    (tmp_path / "pets/dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UnreadableImages) as caught:
        data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "c")
    assert {path.name for path in caught.value.reasons} == {"text.jpg", "gone.png"}
    assert str(tmp_path / "pets/cat/text.jpg") in str(caught.value)
    assert caught.value.kind == "user_error"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="there is no such folder") as caught:
        data.load(folder_task(tmp_path / "nowhere"), cache_dir=tmp_path)
    assert caught.value.kind == "data_missing"
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_pictures_without_class_folders_are_refused(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    with pytest.raises(NoClasses, match="class folders"):
        data.load(folder_task(tmp_path), cache_dir=tmp_path / "c")


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 0})
    with pytest.raises(EmptyClass, match="pets/dog"):
        data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "c")


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4})
    with pytest.raises(SingleClass, match="'cat' is the only class"):
        data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "c")


def test_a_class_that_train_has_not_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets/train", {"cat": 4, "dog": 4})
    write_classes(tmp_path / "pets/test", {"cat": 1, "wolf": 1})
    with pytest.raises(UnknownClass, match="test/wolf"):
        data.load(folder_task(tmp_path / "pets"), cache_dir=tmp_path / "c")


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheUnwritable, match="cannot be kept here") as caught:
        data.load(DIGITS, cache_dir=tmp_path / "file")
    assert caught.value.kind == "infrastructure"


@pytest.mark.skipif(
    not PHOTOS.exists(), reason="needs the lab's shared data beside the checkout"
)
def test_photos_as_people_have_them_are_loaded(tmp_path: Path) -> None:
    with tarfile.open(PHOTOS) as archive:
        archive.extractall(tmp_path, filter="data")
    (train,) = tmp_path.rglob("train")
    photos = data.load(
        folder_task(train.parent), cache_dir=tmp_path / "c", wanted=ImageSpec(32)
    )
    assert sorted(photos.classes) == ["ants", "bees"]
    assert sum(photos.counts.values()) == 397
    assert photos.train.inputs.shape[1:] == (32, 32, 3)


def test_what_an_older_release_left_in_the_cache_is_neither_read_nor_in_the_way(
    tmp_path: Path,
) -> None:
    fingerprint = Digits().fingerprint
    facts = hashlib.sha256(f"3 () {fingerprint}".encode()).hexdigest()
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / f"{facts}.json").write_text("{}")
    new = data.load(DIGITS, cache_dir=tmp_path / "new")
    old = (
        tmp_path
        / hashlib.sha256(f"3 {new.sha256} 0.2 0.2 image 8 crop (0, 65535)".encode()).hexdigest()
    )
    old.mkdir()
    assert data.load(DIGITS, cache_dir=tmp_path).key == new.key
    assert list(old.iterdir()) == []


@pytest.mark.parametrize(
    "encoding", [Encoding("uint8", (2, 2, 1), ""), Encoding("int32", (5,), "")]
)
def test_a_split_is_read_in_the_dtype_and_shape_that_it_was_encoded_in(
    tmp_path: Path, encoding: Encoding
) -> None:
    samples = np.arange(3 * 5 * 4).astype(encoding.dtype)[: 3 * int(np.prod(encoding.shape))]
    samples = samples.reshape(3, *encoding.shape)
    cache.write_split(tmp_path, "train", iter(samples), np.arange(3), encoding)
    split = cache.open_split(tmp_path, "train")
    assert split.inputs.dtype == samples.dtype
    assert np.array_equal(split.inputs, samples)
