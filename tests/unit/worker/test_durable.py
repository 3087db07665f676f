from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.mortal_disk import dying_after
from worker import atomic_files


@given(old=st.binary(max_size=64), new=st.binary(max_size=64), steps=st.integers(0, 8))
def test_a_file_is_the_old_or_the_new_one_whenever_its_writer_is_killed(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes, steps: int
) -> None:
    path = tmp_path_factory.mktemp("durable") / "file"
    atomic_files.write(path, old)
    with dying_after(steps):
        atomic_files.write(path, new)
    assert path.read_bytes() in (old, new)


def test_what_was_written_before_the_writer_went_on_is_there(tmp_path: Path) -> None:
    atomic_files.write(tmp_path / "deep" / "file", b"content")
    assert (tmp_path / "deep" / "file").read_bytes() == b"content"


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_files.place(tmp_path / "file.part", fill, lambda _: tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
