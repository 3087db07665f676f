"""Files of weights: told by their content, read without running code, and unwrapped to one set of tensors."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.serialization import safe_globals

from worker.training import safetensors_files
from worker.training.errors import WeightsMissing, WeightsUnreadable

_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict")
"""Keys of averaged weights. They go before the others: they are what the published scores were measured with."""
_WRAPPERS = (*_AVERAGES, "state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the state dict, the first found before the others."""
_COMPILED = "_orig_mod."
"""The prefix that torch.compile puts before the names of compiled modules, at any depth."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names in the published weights of densenets, from before torch forbade dots in module names."""
_NO_TENSORS = (
    "it is cut short, or holds more than tensors, and code is never run: "
    "fetch it again, or save the network's state_dict() alone"
)
_PROGRAM = (
    "it is a TorchScript program, and code is never run: load it with torch.jit.load where it was made, "
    "and save its state_dict()"
)
_FOLDER = (
    "it is a folder, which is how models for texts are published: name one file of weights"
)
_NO_WEIGHTS = {
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file itself with git lfs pull",
    b"\x89HDF": "it is an HDF5 file of Keras: weights of torch are needed",
    b"<": "it is a web page: fetch the file itself",
    b"{": "it is text, such as the index of a checkpoint in several files: put its tensors into one file",
}
"""Beginnings of files that people take for weights."""
_LONGEST_HEADER = 100_000_000
"""Bytes; no safetensors file has a longer one."""


class _Aside:
    """Stands for an object beside the tensors: takes all that a pickle gives it, and keeps nothing."""

    def __init__(self, *parts: object) -> None:
        del parts

    def __setstate__(self, state: object) -> None:
        del state


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Aside, "argparse.Namespace"),
    (_Aside, "numpy.core.multiarray.scalar"),
    (_Aside, "numpy._core.multiarray.scalar"),
    (_Aside, "numpy.dtype"),
    (_Aside, "pathlib.PosixPath"),
    (_Aside, "pathlib._local.PosixPath"),
    (dict, "pytorch_lightning.utilities.parsing.AttributeDict"),
    (dict, "lightning.pytorch.utilities.parsing.AttributeDict"),
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
]
"""What training scripts keep beside the tensors, and what is made in its place."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors of a file by their names in the network, and the file's own words on them.

    Attributes:
        tensors: The tensors by name.
        metadata: Texts by name, of a safetensors file.
        part: The keys under which the tensors stood, with dots between them; empty for a bare state dict.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    part: str = ""


def read(path: Path) -> WeightsFile:
    """Read a safetensors or a torch file, whatever it is called; of the latter tensors only, never code.

    Raises:
        WeightsMissing: It is not there.
        WeightsUnreadable: It is a folder, corrupt, or holds other things than tensors.
    """
    if path.is_dir():
        raise WeightsUnreadable(path, _FOLDER)
    if not path.is_file():
        raise WeightsMissing(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if _is_safetensors(head):
            tensors, metadata = safetensors_files.read(path)
            return WeightsFile(_unwrap(tensors)[0], metadata)
        for beginning, why in _NO_WEIGHTS.items():
            if head.lstrip().startswith(beginning):
                raise WeightsUnreadable(path, why)
        tensors, keys = _unwrap(_torch_file(path))
        return WeightsFile(tensors, part=".".join(keys))
    except (safetensors_files.SafetensorError, OSError, TypeError) as error:
        raise WeightsUnreadable(path, str(error)) from error


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a header in JSON, and the header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _torch_file(path: Path) -> object:
    try:
        # Opened here: torch goes by the suffix of a path.
        with path.open("rb") as file, safe_globals(_STAND_INS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # A corrupt pickle raises whatever its bytes happen to spell.
        # Not in torch's words: they say how to run the code that such a file may hold.
        reason = _PROGRAM if "TorchScript" in str(error) else _NO_TENSORS
        raise WeightsUnreadable(path, reason) from error


def _unwrap(content: object) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a file by name, and the keys that lead to them."""
    if not isinstance(content, Mapping):
        raise TypeError(f"holds a {type(content).__name__} where a state dict was expected")
    content = cast(Mapping[object, Any], content)
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping) and content[key]:
            tensors, keys = _unwrap(content[key])
            return tensors, (key, *keys)
    return {
        _OLD_DENSENET.sub(r"\1\2", name.replace(_COMPILED, "")): value
        for name, value in _flat(content, "")
    }, ()


def _flat(content: Mapping[object, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its dotted name, however deep it lies."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _flat(cast(Mapping[object, Any], value), f"{prefix}{key}.")
