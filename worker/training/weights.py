"""Weights as people publish them: read without running code, matched by name and shape, and told what matched."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, hub, nn

from worker.data.network import patience
from worker.training import files
from worker.training.errors import (
    WeightsMissing,
    WeightsUnavailable,
    WeightsUnfit,
    WeightsUnreadable,
)

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the state dict."""
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names in the published weights of densenets, from before torch forbade dots in module names."""
_DOWNLOAD_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors of a file by their names in the network, and the file's own words on them."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """What became of the tensors of a file and of those of the network.

    Attributes:
        source: Where the weights came from.
        matched: Taken over.
        left_out: In both, but of another shape: the head of another task.
        missing: In the network only; they keep their random values.
        unused: In the file only.
    """

    source: str
    matched: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read(path: Path) -> WeightsFile:
    """Read a `.safetensors` file or a torch file; of the latter tensors only, never code.

    Raises:
        WeightsMissing: It is not there.
        WeightsUnreadable: It is corrupt, or holds other things than tensors.
    """
    if not path.is_file():
        raise WeightsMissing(path)
    try:
        if path.suffix == ".safetensors":
            tensors, metadata = files.read(path)
            return WeightsFile(_unwrap(tensors), metadata)
        return WeightsFile(_unwrap(torch.load(path, map_location="cpu", weights_only=True)))
    except (files.SafetensorError, OSError) as error:
        raise WeightsUnreadable(path, str(error)) from error
    except Exception as error:  # A corrupt pickle raises whatever its bytes happen to spell.
        raise WeightsUnreadable(path, _first_line(error)) from error


def download(backbone: str, url: str, folder: Path | None) -> Path:
    """Return the file of published weights, from torch's cache or the network.

    Args:
        backbone: Its name, for messages.
        url: Where it is published; torch's file names carry the beginning of their sha256.
        folder: Where to keep it; None is torch's usual cache.

    Raises:
        WeightsUnavailable: It is neither here nor reachable.
    """
    path = (folder or Path(hub.get_dir()) / "checkpoints") / url.rsplit("/", 1)[-1]
    if path.exists():
        return path
    digest = hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with patience(_DOWNLOAD_TIMEOUT_S):
            hub.download_url_to_file(url, str(path), digest and digest.group(1), progress=False)
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(backbone, url, path, _first_line(error)) from error
    return path


def load_into(
    network: nn.Module, file: WeightsFile, *, source: str, backbone: str
) -> WeightsReport:
    """Copy every tensor whose name and shape are the network's.

    Raises:
        WeightsUnfit: There is none.
    """
    own = cast(dict[str, Tensor], network.state_dict())
    shared = [name for name in own if name in file.tensors]
    matched = [name for name in shared if own[name].shape == file.tensors[name].shape]
    if not any(own[name].is_floating_point() for name in matched):
        raise WeightsUnfit(source, backbone)
    network.load_state_dict({name: file.tensors[name] for name in matched}, strict=False)
    return WeightsReport(
        source=source,
        matched=tuple(matched),
        left_out=tuple(name for name in shared if name not in set(matched)),
        missing=tuple(name for name in own if name not in file.tensors),
        unused=tuple(name for name in file.tensors if name not in own),
    )


def _unwrap(content: object) -> Mapping[str, Tensor]:
    if not isinstance(content, Mapping):
        raise TypeError(f"holds a {type(content).__name__} where a state dict was expected")
    content = cast(Mapping[object, Any], content)
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in tensors.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
