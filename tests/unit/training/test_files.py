"""Files of tensors that we write, and the library reads."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.tensors import tensors
from tests.support.tiny import same_tensors
from worker.training import safetensors_files

TENSORS: dict[str, Tensor] = {
    "scalar": torch.tensor(3, dtype=torch.int64),
    "nothing": torch.zeros(0, 4),
    "flags": torch.tensor([True, False, True]),
    "half": torch.randn(3, 5).to(torch.bfloat16),
    "transposed": torch.randn(4, 6).t(),
    "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "double": torch.randn(7, dtype=torch.float64),
    "bytes": torch.arange(5, dtype=torch.uint8),
}


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    safetensors_files.write(tmp_path / "a", TENSORS, {"words": "ü \n"})
    loaded, metadata = safetensors_files.read(tmp_path / "a")
    assert same_tensors(loaded, TENSORS)
    assert metadata == {"words": "ü \n"}


@given(st.dictionaries(st.text(min_size=1, max_size=3), tensors(), max_size=4))
def test_any_tensor_comes_back_as_it_was(tmp_path: Path, some: dict[str, Tensor]) -> None:
    safetensors_files.write(tmp_path / "a", some, {})
    loaded, _ = safetensors_files.read(tmp_path / "a")
    assert same_tensors(loaded, some)


def test_the_bytes_are_the_librarys_own(tmp_path: Path) -> None:
    floats = {
        name: value.contiguous()
        for name, value in TENSORS.items()
        if name in ("last", "transposed")
    }
    safetensors_files.write(tmp_path / "a", floats, {"one": "word"})
    assert (tmp_path / "a").read_bytes() == safetensors.torch.save(floats, {"one": "word"})


def test_the_hash_is_of_the_bytes_on_disk_and_the_same_whatever_the_order(
    tmp_path: Path,
) -> None:
    one = safetensors_files.write(tmp_path / "a", TENSORS, {})
    other = safetensors_files.write(tmp_path / "b", dict(reversed(TENSORS.items())), {})
    assert one == other == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_the_hash_of_a_large_file_is_of_all_its_bytes_too(tmp_path: Path) -> None:
    large = {name: torch.randn(200, 1000) for name in "abc"} | TENSORS
    told = safetensors_files.write(tmp_path / "a", large, {})
    assert told == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


@pytest.mark.parametrize("tensors", [TENSORS, {"large": torch.zeros(1 << 20)}])
def test_a_disk_that_takes_nothing_is_the_operating_systems_error(
    tensors: dict[str, Tensor],
) -> None:
    with pytest.raises(OSError, match="No space left"):
        safetensors_files.write(Path("/dev/full"), tensors, {})
