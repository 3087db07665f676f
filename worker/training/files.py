"""safetensors files with their metadata; the library leaves its types half open, so it is called here only."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
from safetensors import SafetensorError as SafetensorError
from torch import Tensor


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


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file; the same tensors and metadata give the same bytes."""
    save = cast(Callable[..., None], safetensors.torch.save_file)  # pyright: ignore[reportUnknownMemberType]
    save({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata))
