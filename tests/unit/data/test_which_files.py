"""Which files are pictures of the data set: their content decides, and what does not count is told."""

import logging
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pictures import folder_task, picture, table_task, write_classes, write_table
from tests.support.records import a_record
from worker import data
from worker.data import decoding
from worker.data.errors import ClassTooSmall, LinkLoop, UnreadableImages
from worker.data.images import folder, picture_files
from worker.data.images.encoding import Images
from worker.data.images.picture_files import ImageHeader
from worker.runner.trial_record import log_left_out

NOT_A_PICTURE = "not a picture that can be read"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 4})
    return tmp_path / "pets"


def _load(pets: Path, on_bad_file: str = "fail") -> data.TaskData:
    task = folder_task(pets).model_copy(update={"on_bad_file": on_bad_file})
    return data.load(task, cache_dir=pets.parent / "cache")


def _count(loaded: data.TaskData) -> int:
    return sum(loaded.counts.values())


def _left_out(loaded: data.TaskData) -> dict[str, tuple[int, set[str]]]:
    return {each.reason: (each.count, set(each.first)) for each in loaded.left_out}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jfif", "JPEG"),
        ("a.jpe", "JPEG"),
        ("a.gif", "GIF"),
        ("a.avif", "AVIF"),
        ("a.jp2", "JPEG2000"),
        ("a", "PNG"),
        ("a.0001", "WEBP"),
        ("a.txt", "PNG"),
        ("a.PNG", "PNG"),
        ("a.JPG", "TIFF"),
        ("a.pbm", "PPM"),
        ("without-suffix", "BMP"),
    ],
)
def test_a_picture_counts_whatever_it_is_called(pets: Path, name: str, kind: str) -> None:
    picture(5).save(pets / "cat" / name, format=kind)
    loaded = _load(pets)
    assert _count(loaded) == 9
    assert loaded.left_out == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.txt", b"Pets of the house.\n"),
        ("NOTES", b"P6 or P5? Pyramids are not cats.\n"),
        ("cars.md", b"BMW is no cat.\n"),
        ("labels.csv", b"image,label\n000.png,cat\n"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
        ("figure", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("empty", b""),
        ("scan.tga", bytes([0, 0, 2, *bytes(9), 1, 0, 1, 0, 24, 0, 1, 2, 3])),
    ],
)
def test_what_is_no_picture_is_left_out_and_counted_and_no_bad_file(
    pets: Path, name: str, content: bytes
) -> None:
    plain = _load(pets)
    for number in range(3):
        (pets / f"dog/sub{number}").mkdir()
        (pets / f"dog/sub{number}" / name).write_bytes(content)
    loaded = _load(pets)
    first = {f"dog/sub{number}/{name}" for number in range(3)}
    assert _left_out(loaded) == {NOT_A_PICTURE: (3, first)}
    assert loaded.skipped.count == 0
    assert (loaded.key, loaded.split_sha256) == (plain.key, plain.split_sha256)


@pytest.mark.parametrize(
    ("name", "length"),
    [("cut", 100), ("cut", 20), ("cut.dat", 20), ("cut.jpg", 100), ("none.png", 0)],
)
def test_a_file_that_claims_to_be_a_picture_and_is_broken_is_bad(
    pets: Path, name: str, length: int
) -> None:
    picture(5).save(pets / "cat/whole.png")
    (pets / "cat" / name).write_bytes((pets / "cat/whole.png").read_bytes()[:length])
    with pytest.raises(UnreadableImages, match=f"cat/{name}"):
        _load(pets)
    loaded = _load(pets, "skip")
    assert [file.path for file in loaded.skipped.first] == [f"cat/{name}"]
    assert (loaded.left_out, _count(loaded)) == ((), 9)


def test_a_program_in_the_place_of_a_picture_is_not_started(pets: Path) -> None:
    """Pillow reads PostScript by starting Ghostscript."""
    (pets / "cat/a.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    )
    with pytest.raises(UnreadableImages, match="cannot identify"):
        _load(pets)


def test_hidden_files_and_folders_are_skipped_and_told(pets: Path) -> None:
    (pets / "cat/.ipynb_checkpoints").mkdir()
    picture(5).save(pets / "cat/.ipynb_checkpoints/000-checkpoint.png")
    picture(6).save(pets / "dog/._000.png")
    (pets / "dog/.DS_Store").touch()
    loaded = _load(pets)
    assert _count(loaded) == 8
    hidden = {"cat/.ipynb_checkpoints", "dog/._000.png", "dog/.DS_Store"}
    assert _left_out(loaded) == {"hidden": (3, hidden)}


def test_many_names_are_cut_short_and_all_are_counted(pets: Path) -> None:
    for number in range(50):
        (pets / f"cat/{number}.txt").touch()
    ((count, first),) = _left_out(_load(pets)).values()
    assert (count, len(first)) == (50, 5)


def test_links_to_folders_and_files_are_followed(pets: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "other", {"more": 3, "owl": 5})
    (pets / "cat/linked").symlink_to(tmp_path / "other/more")
    (pets / "owl").symlink_to(tmp_path / "other/owl")
    picture(5).save(tmp_path / "one.png")
    (pets / "dog/one").symlink_to(tmp_path / "one.png")
    loaded = _load(pets)
    assert loaded.classes == ("cat", "dog", "owl")
    counted = [sum(each) for each in zip(*loaded.class_counts.values(), strict=True)]
    assert counted == [7, 5, 5]


@pytest.mark.parametrize("target", ["cat", ".", "..", "../.."])
def test_a_link_that_leads_back_is_refused_by_name(pets: Path, target: str) -> None:
    (pets / "cat/deep").mkdir()
    (pets / "cat/deep/again").symlink_to(pets / target, target_is_directory=True)
    with pytest.raises(LinkLoop, match="following it would never end") as caught:
        _load(pets)
    assert caught.value.path == pets / "cat/deep/again"
    assert caught.value.kind == "user_error"


def test_two_links_to_one_folder_are_no_loop_but_copies(pets: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "other", {"more": 3})
    for name in ("one", "two"):
        (pets / "cat" / name).symlink_to(tmp_path / "other/more")
    assert _load(pets).duplicates.copies == 3


def test_a_link_to_itself_is_a_bad_file(pets: Path) -> None:
    (pets / "cat/itself").symlink_to(pets / "cat/itself")
    with pytest.raises(UnreadableImages, match="symbolic links"):
        _load(pets)


@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_a_pipe_is_never_opened(pets: Path, name: str) -> None:
    os.mkfifo(pets / "cat" / name)
    loaded = _load(pets)
    assert _left_out(loaded) == {"neither a file nor a folder": (1, {f"cat/{name}"})}


@contextmanager
def _as_anybody() -> Generator[None]:
    """Root may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_bad_by_name(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pets / "cat", pets / "cat/closed")
    for path in (pets, *pets.rglob("*")):
        path.chmod(0o755)
    (pets / "cat/closed").chmod(0)
    monkeypatch.chdir(pets)  # The folders above are closed to anybody.
    with _as_anybody():
        facts = decoding.read_facts(folder.scan(Path()), Images())
    (pets / "cat/closed").chmod(0o755)
    ((path, why),) = facts["bad"].items()
    assert path == "cat/closed"
    assert "Permission denied" in why
    assert len([draw for draw in facts["contents"] if draw is not None]) == 8


def test_a_class_of_texts_alone_has_no_picture(pets: Path) -> None:
    (pets / "docs").mkdir()
    (pets / "docs/README.md").touch()
    with pytest.raises(ClassTooSmall, match="'docs' has 0 different pictures"):
        _load(pets)


def test_a_file_that_a_table_names_is_bad_if_it_is_none(tmp_path: Path) -> None:
    lines = ["image,x", *(f"{number}.png,{number}" for number in range(6)), "notes.txt,3"]
    path = write_table(tmp_path, lines, pictures=6)
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(UnreadableImages, match=r"notes\.txt"):
        data.load(table_task(path, "regression", ["x"]), cache_dir=tmp_path / "cache")


def test_files_are_looked_into_once_and_again_when_they_change(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    header = picture_files.header

    def note(path: Path) -> ImageHeader:
        opened.append(path)
        return header(path)

    monkeypatch.setattr(picture_files, "header", note)
    (pets / "cat/new").write_text("not yet a picture")
    for _ in range(3):
        assert _left_out(_load(pets)) == {NOT_A_PICTURE: (1, {"cat/new"})}
    assert len(opened) == 9
    picture(5).save(pets / "cat/new", format="PNG")
    assert _count(_load(pets)) == 9


def test_the_log_tells_once_a_trial_what_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_left_out("pets trial 3", a_record())
    assert caplog.messages == []
    left_out = ({"reason": "hidden", "count": 2}, {"reason": NOT_A_PICTURE, "count": 70})
    log_left_out("pets trial 3", a_record(left_out=left_out, skipped={"count": 1}))
    assert caplog.messages == [
        "pets trial 3: left out of the data: 1 bad, 2 hidden, 70 not a picture that can be read; "
        "the trial's record names the first of them"
    ]


def test_pictures_of_other_modes_that_their_format_has_are_read(pets: Path) -> None:
    Image.new("P", (12, 12)).save(pets / "cat/a.gif")
    frames = [picture(number) for number in range(3)]
    frames[0].save(pets / "cat/b.gif", save_all=True, append_images=frames[1:])
    assert _count(_load(pets)) == 10
