"""Weights as people publish them: read without running code, matched by name and shape, and told what matched."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, hub, nn

from worker.data.network import patience
from worker.training import safetensors_files
from worker.training.errors import (
    WeightsMissing,
    WeightsUnavailable,
    WeightsUnfit,
    WeightsUnreadable,
)

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
"""Keys under which training scripts keep the state dict, the first found before the others."""
_COMPILED = "_orig_mod."
"""The prefix that torch.compile puts before the names of compiled modules, at any depth."""
_COUNTER = "num_batches_tracked"
"""A counter of batch normalisation; files from before 2018 have none, and no network here reads it."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names in the published weights of densenets, from before torch forbade dots in module names."""
_DOWNLOAD_TIMEOUT_S = 30.0
_NO_TENSORS = (
    "it is cut short, or holds more than tensors, and code is never run: "
    "fetch it again, or save the network's state_dict() alone"
)
_NAMED = 4
"""At most this many tensors of each kind are named in a message."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The tensors of a file by their names in the network, and the file's own words on them."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """The tensors of a file and of a network, by what became of them.

    Attributes:
        source: The path of the file.
        matched: Names of the tensors that were taken over.
        left_out: Names that both have, with tensors of other shapes: the head of another task.
        quantised: Names that both have, but in the file as integers or in 8 bits, which are no weights without their
            scales.
        missing: Names that the network alone has; these tensors keep their random values.
        unused: Names that the file alone has.
    """

    source: str
    matched: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    quantised: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Say in one line what was taken over and what was not."""
        told = {
            "of another shape": self.left_out,
            "quantised": self.quantised,
            "not in the file": self.missing,
            "not in the network": self.unused,
        }
        parts = [
            f"{len(names)} {what} ({_some(names)})" for what, names in told.items() if names
        ]
        return "; ".join([f"{len(self.matched)} tensors taken over from {self.source}", *parts])


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
            tensors, metadata = safetensors_files.read(path)
            return WeightsFile(_unwrap(tensors), metadata)
        return WeightsFile(_unwrap(_torch_file(path)))
    except (safetensors_files.SafetensorError, OSError, TypeError) as error:
        raise WeightsUnreadable(path, str(error)) from error


def _torch_file(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # A corrupt pickle raises whatever its bytes happen to spell.
        # Not in torch's words: they say how to run the code that such a file may hold.
        raise WeightsUnreadable(path, _NO_TENSORS) from error


def download(backbone: str, url: str, folder: Path | None) -> Path:
    """Return the file of published weights, from torch's cache or the network.

    Args:
        backbone: The backbone's name, for messages.
        url: The address of the file; torch's file names carry the beginning of their sha256.
        folder: The folder that keeps the file; None is torch's usual cache.

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


def named_for(network: nn.Module, file: WeightsFile) -> WeightsFile:
    """Give the tensors of a file the names of a network, where one prefix is all that tells them apart.

    People publish `module.` (DataParallel), `model.` or `backbone.` before all names, or before all but the head's;
    or their own network holds the published one, and it is its names that have the prefix. Of the prefixes that at
    least half of the smaller side have, that one is taken by which most names match.
    """
    own = cast(dict[str, Tensor], network.state_dict())

    def matches(tensors: Mapping[str, Tensor]) -> int:
        return sum(name in own and own[name].shape == tensors[name].shape for name in tensors)

    enough = min(len(own), len(file.tensors)) / 2
    shorter = [_without(prefix, file.tensors) for prefix in _prefixes(file.tensors, enough)]
    longer = [
        {f"{prefix}{name}": value for name, value in file.tensors.items()}
        for prefix in _prefixes(own, enough)
    ]
    # Between equals the names as they are win, since they come first: a prefix is taken away only where that helps.
    best = max((file.tensors, *shorter, *longer), key=matches)
    return WeightsFile(best, file.metadata)


def load_into(
    network: nn.Module, file: WeightsFile, *, source: str, backbone: str
) -> WeightsReport:
    """Copy every tensor whose name and shape are the network's, in whatever precision it is.

    Raises:
        WeightsUnfit: There is none.
    """
    own = cast(dict[str, Tensor], network.state_dict())
    shared = [name for name in own if name in file.tensors]
    same = [name for name in shared if own[name].shape == file.tensors[name].shape]
    matched = [name for name in same if _same_kind(own[name], file.tensors[name])]
    if not any(own[name].is_floating_point() for name in matched):
        raise WeightsUnfit(source, backbone)
    network.load_state_dict({name: file.tensors[name] for name in matched}, strict=False)
    return WeightsReport(
        source=source,
        matched=tuple(matched),
        left_out=tuple(name for name in shared if name not in set(same)),
        quantised=tuple(name for name in same if name not in set(matched)),
        missing=tuple(
            name for name in own if name not in file.tensors and not name.endswith(_COUNTER)
        ),
        unused=tuple(name for name in file.tensors if name not in own),
    )


def _same_kind(own: Tensor, given: Tensor) -> bool:
    """Whether both are numbers in their own right: floats of 16 bits or more, or both integers."""
    if own.is_floating_point():
        return given.is_floating_point() and given.element_size() > 1
    return not given.is_floating_point() and not given.is_quantized


def _prefixes(names: Collection[str], enough: float) -> list[str]:
    """The dotted prefixes, the shortest first, that enough names have."""
    counts = Counter(
        name[: at + 1] for name in names for at, each in enumerate(name) if each == "."
    )
    return sorted((each for each, n in counts.items() if n >= enough), key=len)


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take a prefix away where it is, and leave what has another name."""
    shorter = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    return {
        name: value for name, value in tensors.items() if not name.startswith(prefix)
    } | shorter


def _unwrap(content: object) -> Mapping[str, Tensor]:
    if not isinstance(content, Mapping):
        raise TypeError(f"holds a {type(content).__name__} where a state dict was expected")
    content = cast(Mapping[object, Any], content)
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    return {
        _OLD_DENSENET.sub(r"\1\2", name.replace(_COMPILED, "")): value
        for name, value in _flat(content, "")
    }


def _flat(content: Mapping[object, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its dotted name, however deep it lies."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _flat(cast(Mapping[object, Any], value), f"{prefix}{key}.")


def _some(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
