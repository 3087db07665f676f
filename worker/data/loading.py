"""From a task to its splits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.contract.metrics import Direction, TaskKind
from trimtab.contract.records import (
    MOST_NAMED,
    Duplicates,
    Part,
    Skipped,
    SkippedFile,
)
from trimtab.contract.tasks import (
    BuiltinDataset,
    CsvDataset,
    ImageFolderDataset,
    Task,
    TorchvisionDataset,
)
from worker.data import cache, decoding, shots, table, targets
from worker.data.cache import Split
from worker.data.images import folder
from worker.data.images.digits import Digits
from worker.data.images.torchvision_sets import VisionSet
from worker.data.seal import Seal
from worker.data.source import Source
from worker.data.table import Table
from worker.data.targets import Target

OWN_SIDE_LIMIT = 64
"""Pictures that all have one side of at most so many pixels keep it ..."""
COMMON_SIDE = 32
"""... and all others are scaled to this one, where nobody asks for a size."""

_FORMAT = 2
"""Part of every key: a change of layout or of the decoding makes old caches invisible."""


@dataclass(frozen=True, slots=True)
class TaskData:
    """What a trial may see of a task: everything but the sealed test split.

    Attributes:
        train: What is learned from.
        validation: What trials are compared by.
        classes: Class names of a single classification; a label is a position here.
        sha256: Hash of every picture's content and name, test pictures included.
        split_seed: Seed of the splits, from the hash: the same data are split alike everywhere.
        counts: Pictures in `train`, `validation` and `test`.
        notes: What a person should know about the splits.
        split_sha256: Hash of which picture is in which split; empty where nobody knows.
        class_counts: Pictures of each class in each split.
        skipped: Files that were left out.
        duplicates: Pictures of the same content.
        key: Changes whenever a byte of `train` or `validation` may have changed; empty where nobody knows.
        metric: What trials are compared by.
        direction: Whether more or less of it is better.
        kind: Of the task.
        targets: What is to be learned; of labels `(N, targets)` each has a column.
    """

    train: Split
    validation: Split
    classes: tuple[str, ...]
    sha256: str
    split_seed: int
    counts: Mapping[Part, int]
    notes: tuple[str, ...] = ()
    split_sha256: str = ""
    class_counts: Mapping[Part, Sequence[int]] = field(
        default_factory=dict[Part, Sequence[int]]
    )
    skipped: Skipped = field(default_factory=Skipped)
    duplicates: Duplicates = field(default_factory=Duplicates)
    key: str = ""
    metric: str = "accuracy"
    direction: Direction = "maximize"
    kind: TaskKind = "classification"
    targets: tuple[Target, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the outputs of a network's last layer stand for, in order."""
        if self.kind == "classification":
            return self.classes
        return tuple(
            f"{target.name}={name}" if name else target.name
            for target in self.targets
            for name in (target.classes or ("",))
        )


def load(
    task: Task,
    *,
    cache_dir: Path,
    image_size: int | None = None,
    few: int | None = None,
    download: bool = False,
) -> TaskData:
    """Open what a trial trains on and is measured by; decode the data set if this machine has not yet.

    Args:
        task: Data set and split.
        cache_dir: Where decoded pictures are kept, for all processes of this machine.
        image_size: Side of the square pictures. None keeps the side of small ones that all agree
            (`OWN_SIDE_LIMIT`) and scales others to `COMMON_SIDE`.
        few: How many labelled pictures of each class `train` keeps (`shots`); None keeps all.
        download: Whether a public data set that is not there may be fetched.

    Raises:
        DataError: The data set is missing, broken or nothing that could be learned from.
    """
    decoded = _decoded(task, cache_dir, image_size, download=download)
    manifest = json.loads((decoded / "manifest.json").read_text())
    if isinstance(task.dataset, CsvDataset):
        targets.check_measurable(Path(task.dataset.path), task, manifest["varied"])
    train = cache.open_split(decoded, "train")
    if few is not None:
        rows = shots.choose(train.labels, few, seed=manifest["split_seed"])
        train = replace(train, labels=train.labels[rows], rows=rows)
    return TaskData(
        train=train,
        validation=cache.open_split(decoded, "validation"),
        classes=tuple(manifest["classes"]),
        sha256=manifest["sha256"],
        split_seed=manifest["split_seed"],
        counts=manifest["counts"],
        notes=tuple(manifest["notes"]),
        split_sha256=manifest["split_sha256"],
        class_counts=manifest["class_counts"],
        skipped=_skipped(manifest["skipped"]),
        duplicates=Duplicates.model_validate(manifest["duplicates"], strict=False),
        key=decoded.name,
        metric=task.metric,
        direction=task.direction,
        kind=task.kind,
        targets=targets.targets_of(task, manifest["target_classes"], train.labels),
    )


def open_test(
    task: Task,
    seal: Seal,
    *,
    cache_dir: Path,
    image_size: int | None = None,
    download: bool = False,
) -> Split:
    """Open the sealed test split. Only the final evaluation of a study's winner does.

    Args:
        task: As for `load`, like the other arguments.
        seal: The right to.
        cache_dir: As above.
        image_size: As above.
        download: As above.

    Raises:
        DataError: As `load`.
    """
    del seal  # To have it is what counts.
    return cache.open_split(_decoded(task, cache_dir, image_size, download=download), "test")


def _decoded(task: Task, cache_dir: Path, image_size: int | None, *, download: bool) -> Path:
    source = _open_source(task, download=download)
    name = hashlib.sha256(f"{_FORMAT} {source.fingerprint}".encode()).hexdigest()
    facts = cache.json_once(
        cache_dir / "facts" / f"{name}.json", partial(decoding.read_facts, source)
    )
    side = image_size or _own_side(facts)
    key = f"{_FORMAT} {facts['sha256']} {task.validation} {task.test} {side}"
    if isinstance(source, Table):
        kinds = [target.kind for target in task.targets]
        key += f" {json.dumps(source.target_classes)} {kinds}"
    if left_out := [*decoding.bad_rows(source), *sorted(facts["bad"])]:
        # Told with what is left: when somebody has removed the bad ones, nothing is to be told of them.
        key += f" {json.dumps(left_out)}"
    decoded = cache.folder_once(
        cache_dir / hashlib.sha256(key.encode()).hexdigest(),
        partial(decoding.fill, source, task, facts, side),
    )
    if task.on_bad_file == "fail":
        # Another study, which leaves them out, may have filled the cache.
        decoding.refuse(source, json.loads((decoded / "manifest.json").read_text())["skipped"])
    return decoded


def _open_source(task: Task, *, download: bool) -> Source:
    match task.dataset:
        case BuiltinDataset():
            return Digits()
        case ImageFolderDataset(path=path):
            return folder.scan(Path(path).expanduser().resolve())
        case TorchvisionDataset(name=name, root=root):
            return VisionSet(name, Path(root).expanduser().resolve(), download=download)
        case CsvDataset(path=path) as dataset:
            return table.scan(Path(path).expanduser().resolve(), dataset, task)


def _own_side(facts: Mapping[str, Any]) -> int:
    side = facts["side"]
    return side if side is not None and side <= OWN_SIDE_LIMIT else COMMON_SIDE


def _skipped(bad: Mapping[str, str]) -> Skipped:
    first = [SkippedFile(path=path, reason=why) for path, why in list(bad.items())[:MOST_NAMED]]
    return Skipped(count=len(bad), first=tuple(first))
