"""A folder is packed to bytes that follow from its files alone."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from trimtab.client.packing import CannotPack, pack


def a_folder(root: Path) -> Path:
    for name, content in {"cat/1.png": b"cat", "dog/ä.png": b"dog" * 300}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "empty").mkdir()
    return root


def test_a_folder_is_packed_as_a_tar_file_that_python_reads(tmp_path: Path) -> None:
    packed = pack(a_folder(tmp_path))
    content = b"".join(packed.chunks())
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["cat", "cat/1.png", "dog", "dog/ä.png", "empty"]
        file = archive.extractfile("dog/ä.png")
        assert file is not None
        assert file.read() == b"dog" * 300
    told = (hashlib.sha256(content).hexdigest(), len(content), 2)
    assert (packed.sha256, packed.size, packed.files) == told


def test_the_same_files_make_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    one, other = a_folder(tmp_path / "a"), a_folder(tmp_path / "b")
    os.utime(other / "cat" / "1.png", (1, 1))
    (other / "cat" / "1.png").chmod(0o600)
    assert pack(one).sha256 == pack(other).sha256
    (other / "cat" / "1.png").rename(other / "cat" / "2.png")
    assert pack(one).sha256 != pack(other).sha256


def test_links_are_followed_and_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "a")
    linked = tmp_path / "b"
    linked.mkdir()
    for name in ("cat", "dog", "empty"):
        (linked / name).symlink_to(folder / name)
    assert pack(linked).sha256 == pack(folder).sha256
    assert b"".join(pack(folder / "cat" / "1.png").chunks()) == b"cat"


def test_what_cannot_be_packed_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(CannotPack, match="not one file"):
        pack(tmp_path / "a")
    (tmp_path / "a" / "round").symlink_to(tmp_path / "a")
    with pytest.raises(CannotPack, match="leads back"):
        pack(tmp_path / "a")
    (tmp_path / "a" / "round").unlink()
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(CannotPack, match="pipe"):
        pack(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        pack(tmp_path / "nothing")
