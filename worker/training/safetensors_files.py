"""safetensors files with their metadata; the library leaves its types half open, so it is called here only."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError as SafetensorError
from torch import Tensor

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PLAIN = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types that numpy knows too, by size in bytes; tensors are written through a view as one of these."""
_ALIGNMENT = 8
_HASHED_BESIDE = 1 << 20
"""From so many bytes on, hashing takes longer than starting a thread for it."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file and its metadata.

    Raises:
        SafetensorError: It is corrupt or something else.
        OSError: It cannot be read.
    """
    open_file = cast(Callable[..., Any], safetensors.safe_open)
    with open_file(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return tensors, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file, without its tensors; raises as `read`."""
    open_file = cast(Callable[..., Any], safetensors.safe_open)
    with open_file(path, framework="pt") as file:
        return file.metadata() or {}


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file and return its sha256; the same tensors and metadata give the same bytes.

    Not by the library: what is hashed need not be read again, and a thread of its own hashes a large file while this one
    writes. Each goes through the tensors by itself, so that neither keeps for the other what had to be laid out.

    Args:
        path: The file to write.
        tensors: The tensors by name, on the CPU; those that are contiguous are not copied.
        metadata: Texts by name, which are written into the file's header.

    Raises:
        OSError: The disk does not take it.
    """
    if sum(tensor.nbytes for tensor in tensors.values()) < _HASHED_BESIDE:
        content = b"".join(_parts(tensors, metadata))
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()
    with ThreadPoolExecutor(1, "sha256") as beside:
        hashed = beside.submit(_sha256, _parts(tensors, metadata))
        _write(path, _parts(tensors, metadata))
        return hashed.result()


def _write(path: Path, parts: Iterable[memoryview]) -> None:
    with path.open("wb", buffering=0) as file:
        for part in parts:
            while len(part) > 0:
                part = part[file.write(part) :]


def _sha256(parts: Iterable[memoryview]) -> str:
    seen = hashlib.sha256()
    for part in parts:
        seen.update(part)
    return seen.hexdigest()


def _parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """The format: the header's length, the header in JSON, the tensors' bytes; the widest types first, so all align."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    yield memoryview(len(header).to_bytes(8, "little") + header)
    for _, tensor in ordered:
        yield _bytes_of(tensor)


def _bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's bytes in the format's order, which is ours on every machine that torch is built for.

    Numpy lays them out with one thread: those of torch would wait for the cores of the hash and of the training.
    """
    if sys.byteorder != "little":
        raise NotImplementedError("safetensors are little-endian, and so must this machine be")
    plain = tensor.detach().view(_PLAIN[tensor.element_size()]).numpy()
    return np.ascontiguousarray(plain).reshape(-1).view(np.uint8).data
