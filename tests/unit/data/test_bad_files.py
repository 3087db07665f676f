"""Broken files and copies: told, left out where the study says so, and never on both sides of a split."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pictures import folder_task, picture, write_classes
from trimtab.contract.tasks import Task
from worker import data
from worker.data import Seal, decoding
from worker.data.errors import ClassTooSmall, DataMissing, UnreadableImages
from worker.data.images import picture_files
from worker.data.images.encoding import Images
from worker.data.images.picture_files import ImageHeader


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_classes(tmp_path / "pets", {"cat": 10, "dog": 10})
    return tmp_path / "pets"


def _spoil(pets: Path) -> set[str]:
    """One file of each kind of bad."""
    (pets / "cat/text.jpg").write_text("no picture")
    (pets / "cat/empty.png").touch()
    (pets / "dog/gone.png").symlink_to(pets / "nowhere.png")
    whole = (pets / "dog/000.png").read_bytes()
    (pets / "dog/cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (9000, 6000)).save(pets / "dog/huge.png")
    return {"cat/text.jpg", "cat/empty.png", "dog/gone.png", "dog/cut.png", "dog/huge.png"}


def _task(pets: Path, on_bad_file: str = "skip") -> Task:
    return folder_task(pets).model_copy(update={"on_bad_file": on_bad_file})


def test_bad_files_are_left_out_before_the_split_and_told(pets: Path, tmp_path: Path) -> None:
    clean = data.load(_task(pets), cache_dir=tmp_path / "clean")
    bad = _spoil(pets)
    loaded = data.load(_task(pets), cache_dir=tmp_path / "c")
    assert loaded.skipped.count == 5
    assert {file.path for file in loaded.skipped.first} == bad
    reasons = {file.path: file.reason for file in loaded.skipped.first}
    assert "truncated" in reasons["dog/cut.png"]
    assert "9000 x 6000" in reasons["dog/huge.png"]
    assert loaded.counts == clean.counts


def test_one_report_names_every_bad_file_where_the_study_fails(
    pets: Path, tmp_path: Path
) -> None:
    bad = _spoil(pets)
    for cache_dir in ("a", "b"):
        if (
            cache_dir == "b"
        ):  # What a study that leaves them out has cached, the other refuses all the same.
            data.load(_task(pets), cache_dir=tmp_path / "b")
        with pytest.raises(UnreadableImages) as caught:
            data.load(_task(pets, "fail"), cache_dir=tmp_path / cache_dir)
        assert {str(path.relative_to(pets)) for path in caught.value.reasons} == bad


def test_bad_files_that_somebody_has_removed_are_told_no_more(
    pets: Path, tmp_path: Path
) -> None:
    (pets / "cat/text.jpg").write_text("no picture")
    assert data.load(_task(pets), cache_dir=tmp_path / "c").skipped.count == 1
    (pets / "cat/text.jpg").unlink()
    for on_bad_file in ("fail", "skip"):
        assert data.load(_task(pets, on_bad_file), cache_dir=tmp_path / "c").skipped.count == 0


def test_leaving_out_too_much_is_the_usual_error(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    for number in (0, 1):
        (tmp_path / f"pets/dog/{number:03}.png").write_text("no picture")
    with pytest.raises(ClassTooSmall, match="'dog' has 2 different pictures"):
        data.load(_task(tmp_path / "pets"), cache_dir=tmp_path / "c")


def test_a_suffix_that_does_not_fit_the_format_is_no_matter(pets: Path, tmp_path: Path) -> None:
    picture(7).save(pets / "cat/new.png")
    (pets / "cat/new.png").rename(pets / "cat/new.jpg")
    assert data.load(_task(pets, "fail"), cache_dir=tmp_path).skipped.count == 0


def test_a_disk_in_trouble_is_no_bad_file(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> ImageHeader:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(picture_files, "header", fail)
    with pytest.raises(DataMissing, match="Input/output error"):
        data.load(_task(pets), cache_dir=tmp_path)
    monkeypatch.undo()
    assert data.load(_task(pets), cache_dir=tmp_path).skipped.count == 0


def test_copies_stay_on_one_side_of_the_splits_that_are_made_here(
    pets: Path, tmp_path: Path
) -> None:
    for number in range(10):
        shutil.copy(pets / f"cat/{number:03}.png", pets / f"cat/copy-{number:03}.png")
    task = folder_task(pets)
    loaded = data.load(task, cache_dir=tmp_path)
    sealed = data.open_test(task, Seal("final"), cache_dir=tmp_path)
    parts = [
        {image.tobytes() for image in part.inputs}
        for part in (loaded.train, loaded.validation, sealed)
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert loaded.duplicates.copies == 10
    assert loaded.duplicates.across_splits == 0
    assert loaded.counts == {"train": 18, "validation": 6, "test": 6}


def test_copies_across_splits_that_the_data_bring_are_told_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for part in ("train", "val", "test"):
        write_classes(root / part, {"cat": 3, "dog": 3})
    shutil.copy(root / "train/cat/000.png", root / "test/cat/again.png")
    loaded = data.load(folder_task(root), cache_dir=tmp_path / "c")
    assert loaded.counts == {"train": 6, "validation": 6, "test": 7}
    found = loaded.duplicates
    assert (found.copies, found.across_splits, found.conflicting_labels) == (1, 1, 0)
    assert set(found.first[0].parts) == {"train", "test"}
    assert "pictures in more than one split: 1, such as" in loaded.notes[0]
    assert "train/cat/000.png (train)" in loaded.notes[0]


def test_one_picture_under_two_labels_is_told(pets: Path, tmp_path: Path) -> None:
    shutil.copy(pets / "cat/000.png", pets / "dog/really-a-cat.png")
    loaded = data.load(folder_task(pets), cache_dir=tmp_path)
    assert (loaded.duplicates.copies, loaded.duplicates.conflicting_labels) == (1, 1)
    assert not loaded.duplicates.first[0].same_label
    assert "cat/000.png and dog/really-a-cat.png" in loaded.notes[0]


def test_the_record_of_a_split_counts_its_classes_and_names_its_pictures(
    pets: Path, tmp_path: Path
) -> None:
    loaded = data.load(folder_task(pets), cache_dir=tmp_path / "a")
    assert loaded.class_counts == {"train": [6, 6], "validation": [2, 2], "test": [2, 2]}
    other_shares = folder_task(pets, validation=0.3)
    other = data.load(other_shares, cache_dir=tmp_path / "b")
    assert len(loaded.split_sha256) == 64
    assert other.sha256 == loaded.sha256
    assert other.split_sha256 != loaded.split_sha256


def test_reading_facts_asks_every_file_once(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.data.images import folder

    asked: list[Path] = []
    header = picture_files.header

    def ask(path: Path) -> ImageHeader:
        asked.append(path)
        return header(path)

    monkeypatch.setattr(picture_files, "header", ask)
    facts = decoding.read_facts(folder.scan(pets), Images())
    assert len(asked) == len(set(asked)) == 20
    assert len(set(facts["contents"])) == 20
