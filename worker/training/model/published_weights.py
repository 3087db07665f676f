"""Weights as people publish them: fetched, matched by name and shape, and told what matched."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import Tensor, hub, nn

from worker.data.network import patience
from worker.training.errors import (
    WeightsNotFinite,
    WeightsPartial,
    WeightsUnavailable,
    WeightsUnfit,
)
from worker.training.model.weights_files import WeightsFile

_COUNTER = "num_batches_tracked"
"""A counter of batch normalisation; files from before 2018 have none, and no network here reads it."""
_DOWNLOAD_TIMEOUT_S = 30.0
LEAST_SHARE = 0.9
"""Weights that fit less of a backbone are another network's, unless the study says `partial_weights`."""
_NAMED = 4
"""At most this many tensors of each kind are named in a message."""


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """The tensors of a file and of a network, by what became of them.

    Attributes:
        source: The path of the file.
        part: The keys under which the tensors stand in the file, such as `state_dict_ema`; empty where it has one set.
        share: The share of the backbone's parameters, the head's aside, that were taken over. What the file alone has
            in the same modules counts as lacking: a deeper network's file fits a part of itself.
        matched: Names of the tensors that were taken over.
        left_out: Names that both have, but of another shape in the file, or in a head that tells other classes apart.
        head: Whether the file's head was taken, the rows of the task's classes by their names.
        quantised: Names that both have, but in the file as integers or in 8 bits, which are no weights without their
            scales.
        missing: Names that the network alone has; these tensors keep their random values.
        unused: Names that the file alone has.
    """

    source: str
    part: str = ""
    share: float = 1.0
    matched: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    head: bool = False
    quantised: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Say in one line what fits and what does not."""
        told = {
            "of another shape or of a head for other classes": self.left_out,
            "quantised": self.quantised,
            "not in the file": self.missing,
            "not in the network": self.unused,
        }
        parts = [
            f"{len(names)} {what} ({_some(names)})" for what, names in told.items() if names
        ]
        source = f"{self.source} ({self.part})" if self.part else self.source
        count, head = len(self.matched), "its own head, by the names of the classes"
        fit = f"{count} tensor{'s' * (count != 1)} of {source} fit"
        return "; ".join([fit, *parts, *([f"kept: {head}"] if self.head else [])])


def download(backbone: str, url: str, folder: Path | None, name: str | None = None) -> Path:
    """Return the file of published weights, from torch's cache or the network.

    Args:
        backbone: The backbone's name, for messages.
        url: The address of the file; torch's file names carry the beginning of their sha256.
        folder: The folder that keeps the file; None is torch's usual cache.
        name: The name that the file gets; None is the last part of the address.

    Raises:
        WeightsUnavailable: It is neither here nor reachable.
    """
    path = kept_at(folder, name or url.rsplit("/", 1)[-1])
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


def kept_at(folder: Path | None, name: str) -> Path:
    """Return the path of a file of published weights, which may not be there: in `folder`, or else in torch's cache."""
    return (folder or Path(hub.get_dir()) / "checkpoints") / name


def named_for(
    network: nn.Module,
    file: WeightsFile,
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> WeightsFile:
    """Give the tensors of a file the names of a network, where one prefix is all that tells them apart.

    People publish `module.` (DataParallel), `model.` or `backbone.` before all names, or before all but the head's;
    or their own network holds the published one, and it is its names that have the prefix. Of the prefixes that at
    least half of the smaller side have, that one is taken by which most names match.

    Args:
        network: The network.
        file: The tensors as they were read.
        renamed: The network's library's own way from other published forms to its names; it is taken where that fits more.
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
    if renamed is not None and matches(best) < len(own):
        best = max((best, renamed(file.tensors)), key=matches)
    return replace(file, tensors=best)


def load_into(
    network: nn.Module,
    file: WeightsFile,
    *,
    source: str,
    backbone: str,
    head: str,
    knows_head: bool = False,
    partial: bool = False,
) -> WeightsReport:
    """Copy every tensor whose name and shape are the network's, in whatever precision it is, but for the head's.

    A head of as many outputs may be one for other classes, which is worse to begin with than none (by 4 points of
    accuracy in 43 pairs of trainings): its tensors are left out here, and `known_head` finds those that are of use.

    Args:
        network: The network that gets the tensors.
        file: The tensors, by the network's names.
        source: The path of the file, for the report.
        backbone: The name of the network, for messages.
        head: The name of the network's head.
        knows_head: Whether the file's head knows the task's classes, for the report.
        partial: Whether the tensors may fit a smaller part of the network than `LEAST_SHARE`.

    Raises:
        WeightsUnfit: No tensor fits.
        WeightsPartial: Too few of them do.
        WeightsNotFinite: A parameter that fits holds values that are not finite.
    """
    own = cast(dict[str, Tensor], network.state_dict())
    shared = [name for name in own if name in file.tensors]
    of_head = {name for name in shared if name.startswith(f"{head}.")}
    same = [
        name
        for name in shared
        if name not in of_head and own[name].shape == file.tensors[name].shape
    ]
    matched = [name for name in same if _same_kind(own[name], file.tensors[name])]
    if not any(own[name].is_floating_point() for name in matched):
        raise WeightsUnfit(source, backbone)
    report = WeightsReport(
        source=source,
        part=file.part,
        share=_share(network, file, matched, head),
        matched=tuple(matched),
        left_out=tuple(
            name
            for name in shared
            if name not in set(same) and not (knows_head and name in of_head)
        ),
        head=knows_head,
        quantised=tuple(name for name in same if name not in set(matched)),
        missing=tuple(
            name for name in own if name not in file.tensors and not name.endswith(_COUNTER)
        ),
        unused=tuple(name for name in file.tensors if name not in own),
    )
    if report.share < LEAST_SHARE and not partial:
        raise WeightsPartial(backbone, report.share, report.in_words())
    # Parameters alone: a buffer may well hold infinities, as a mask does.
    learned = {name for name, _ in network.named_parameters()}.intersection(matched)
    if broken := sorted(name for name in learned if not file.tensors[name].isfinite().all()):
        raise WeightsNotFinite(source, broken)
    network.load_state_dict({name: file.tensors[name] for name in matched}, strict=False)
    return report


def _share(network: nn.Module, file: WeightsFile, matched: Iterable[str], head: str) -> float:
    """Return the share of the parameters that file and network have in common, of all in the network's modules."""
    sizes = {
        name: value.numel()
        for name, value in network.named_parameters()
        if not name.startswith(f"{head}.")
    }
    own, modules = network.state_dict(), {name.partition(".")[0] for name in sizes}
    foreign = sum(
        value.numel()
        for name, value in file.tensors.items()
        if name not in own
        and name.partition(".")[0] in modules
        and not name.startswith(f"{head}.")
    )
    fit = sum(sizes.get(name, 0) for name in matched)
    return fit / max(1, sum(sizes.values()) + foreign)


def is_weight(given: Tensor) -> bool:
    """Whether a tensor holds floats of 16 bits or more."""
    return given.is_floating_point() and given.element_size() > 1


def _same_kind(own: Tensor, given: Tensor) -> bool:
    """Whether both are numbers in their own right: floats of 16 bits or more, or both integers."""
    if own.is_floating_point():
        return is_weight(given)
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


def _some(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
