"""Archives from elsewhere give ordinary files below one folder, or an error that names what is wrong."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.data_server import tar_of, tar_of_member, zip_of
from worker.fetching.errors import ArchiveUnreadable, ArchiveUnsafe
from worker.fetching.unpacking import unpack

FILES = {"pets/cat/1.png": b"cat", "pets/dog/1.png": b"dog"}


def unpacked(tmp_path: Path, content: bytes) -> dict[str, bytes]:
    file, folder = tmp_path / "fetched", tmp_path / "out" / "folder"
    file.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    unpack(file, folder, "https://host/data", lambda size: None)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_files_are_told_by_their_content(tmp_path: Path, mode: str) -> None:
    assert unpacked(tmp_path, tar_of(FILES, mode)) == FILES


def test_zip_files_are_unpacked_without_what_macos_puts_beside(tmp_path: Path) -> None:
    beside = {"__MACOSX/pets/cat/._1.png": b"resource"}
    assert unpacked(tmp_path, zip_of({**FILES, **beside})) == FILES


def test_what_is_no_archive_is_kept_as_it_is(tmp_path: Path) -> None:
    assert unpacked(tmp_path, b"text,label\n") == {"data": b"text,label\n"}


def named(name: str) -> Callable[[tarfile.TarInfo], None]:
    return lambda member: setattr(member, "name", name)


def linked(kind: bytes, target: str) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


@pytest.mark.parametrize(
    "change",
    [
        named("../outside"),
        named("a/../../outside"),
        named("/tmp/outside"),
        linked(tarfile.SYMTYPE, "/etc"),
        linked(tarfile.LNKTYPE, "../outside"),
        linked(tarfile.CHRTYPE, ""),
        linked(tarfile.FIFOTYPE, ""),
    ],
)
def test_a_tar_file_that_leads_out_of_it_is_refused(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], None]
) -> None:
    with pytest.raises(ArchiveUnsafe, match="nothing of it is unpacked"):
        unpacked(tmp_path, tar_of_member(change))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["folder"]


def zip_with(name: str, mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "mode"), [("../outside", 0o100644), ("link", 0o120777)])
def test_a_zip_file_that_leads_out_of_it_is_refused(
    tmp_path: Path, name: str, mode: int
) -> None:
    with pytest.raises(ArchiveUnsafe, match=name):
        unpacked(tmp_path, zip_with(name, mode))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["folder"]


@pytest.mark.parametrize(
    "content",
    [
        tar_of(FILES)[:60],
        zip_of(FILES)[:-30],
        b"\x1f\x8b\x08\x00 no gzip at all",
        b"\x28\xb5\x2f\xfd\x00\x00",
        tar_of({"a": b"", "a/b": b""}, "w"),
        bytes(20_000),
    ],
    ids=["tar cut short", "zip cut short", "no gzip", "zstd", "file and folder", "empty"],
)
def test_a_broken_archive_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArchiveUnreadable, match="https://host/data: cannot be unpacked"):
        unpacked(tmp_path, content)
