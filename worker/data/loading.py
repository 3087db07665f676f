"""From a task to its splits."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trimtab.contract.metrics import Direction, TaskKind
from trimtab.contract.tasks import BuiltinDataset, CsvDataset, ImageFolderDataset, Task
from worker.data import cache, folder, images, splits, table, targets
from worker.data.cache import Split
from worker.data.digits import Digits
from worker.data.errors import UnreadableImages
from worker.data.images import ImageUnreadable
from worker.data.source import Sample, Source
from worker.data.table import Table
from worker.data.targets import Target

OWN_SIDE_LIMIT = 64
"""Pictures that all have one side of at most so many pixels keep it ..."""
COMMON_SIDE = 32
"""... and all others are scaled to this one, where nobody asks for a size."""

_FORMAT = 2
"""Part of every key: a change of layout or of the decoding makes old caches invisible."""
_THREADS = 4
"""Pillow decodes outside the interpreter's lock; more threads would crowd out the training of other slots."""

_Result = TypeVar("_Result")


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
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()
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


def load(task: Task, *, cache_dir: Path, image_size: int | None = None) -> TaskData:
    """Open what a trial trains on and is measured by; decode the data set if this machine has not yet.

    Args:
        task: Data set and split.
        cache_dir: Where decoded pictures are kept, for all processes of this machine.
        image_size: Side of the square pictures. None keeps the side of small ones that all agree
            (`OWN_SIDE_LIMIT`) and scales others to `COMMON_SIDE`.

    Raises:
        DataError: The data set is missing, broken or nothing that could be learned from.
    """
    decoded = _decoded(task, cache_dir, image_size)
    manifest = json.loads((decoded / "manifest.json").read_text())
    if isinstance(task.dataset, CsvDataset):
        targets.check_measurable(Path(task.dataset.path), task, manifest["varied"])
    train = cache.open_split(decoded, "train")
    return TaskData(
        train=train,
        validation=cache.open_split(decoded, "validation"),
        classes=tuple(manifest["classes"]),
        sha256=manifest["sha256"],
        split_seed=manifest["split_seed"],
        counts=manifest["counts"],
        notes=tuple(manifest["notes"]),
        key=decoded.name,
        metric=task.metric,
        direction=task.direction,
        kind=task.kind,
        targets=targets.targets_of(task, manifest["target_classes"], train.labels),
    )


def open_test(task: Task, *, cache_dir: Path, image_size: int | None = None) -> Split:
    """Open the sealed test split. Only the final evaluation of a study's winner does.

    Raises:
        DataError: As `load`.
    """
    return cache.open_split(_decoded(task, cache_dir, image_size), "test")


def _decoded(task: Task, cache_dir: Path, image_size: int | None) -> Path:
    source = _open_source(task)
    name = hashlib.sha256(f"{_FORMAT} {source.fingerprint}".encode()).hexdigest()
    facts = cache.json_once(cache_dir / "facts" / f"{name}.json", partial(_read_facts, source))
    side = image_size or _own_side(facts)
    key = f"{_FORMAT} {facts['sha256']} {task.validation} {task.test} {side}"
    if isinstance(source, Table):
        kinds = [target.kind for target in task.targets]
        key += f" {json.dumps(source.target_classes)} {kinds}"
    return cache.folder_once(
        cache_dir / hashlib.sha256(key.encode()).hexdigest(),
        partial(_decode, source, task, facts, side),
    )


def _open_source(task: Task) -> Source:
    match task.dataset:
        case BuiltinDataset():
            return Digits()
        case ImageFolderDataset(path=path):
            return folder.scan(Path(path).expanduser().resolve())
        case CsvDataset(path=path) as dataset:
            return table.scan(Path(path).expanduser().resolve(), dataset, task)


def _own_side(facts: Mapping[str, Any]) -> int:
    side = facts["side"]
    return side if side is not None and side <= OWN_SIDE_LIMIT else COMMON_SIDE


def _read_facts(source: Source) -> Mapping[str, Any]:
    headers = list(_of_each(source, source.samples, source.header))
    whole = hashlib.sha256()
    digests = _of_each(source, source.samples, source.digest)
    for sample, digest in zip(source.samples, digests, strict=True):
        whole.update(
            f"{sample.path}\0{sample.label}\0{digest}\n".encode(errors="surrogateescape")
        )
    sides = {side for header in headers for side in (header.width, header.height)}
    return {
        "sha256": whole.hexdigest(),
        "channels": 1 if all(header.grey for header in headers) else 3,
        "side": sides.pop() if len(sides) == 1 else None,
    }


def _decode(
    source: Source, task: Task, facts: Mapping[str, Any], side: int, into: Path
) -> None:
    seed = int(facts["sha256"][:16], 16) >> 1
    parts, notes = splits.assign(
        source.samples, source.classes, validation=task.validation, test=task.test, seed=seed
    )
    channels = facts["channels"]

    def decode(sample: Sample) -> NDArray[np.uint8]:
        return images.square(source.read(sample), side=side, channels=channels)

    classes = source.target_classes if isinstance(source, Table) else {"class": source.classes}
    varied: dict[str, list[str]] = {}
    for part, samples in parts.items():
        pictures = _of_each(source, samples, decode)
        labels = targets.labels_of(samples)
        varied[part] = targets.varied(labels, classes)
        cache.write_split(into, part, pictures, labels, shape=(side, side, channels))
    manifest = {
        "classes": source.classes,
        "sha256": facts["sha256"],
        "split_seed": seed,
        "counts": {part: len(samples) for part, samples in parts.items()},
        "notes": notes,
        "target_classes": classes,
        "varied": varied,
    }
    (into / "manifest.json").write_text(json.dumps(manifest))


def _of_each(
    source: Source, samples: Sequence[Sample], work: Callable[[Sample], _Result]
) -> Iterator[_Result]:
    """Yield `work` of every sample, in order, by several threads; name all that cannot be read at the end."""

    def attempt(sample: Sample) -> _Result | Exception:
        try:
            return work(sample)
        except (ImageUnreadable, OSError) as error:
            return error

    reasons: dict[Path, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for sample, result in zip(samples, pool.map(attempt, samples), strict=True):
            if isinstance(result, Exception):
                reasons[source.locate(sample)] = str(result)
            else:
                yield result
    if reasons:
        raise UnreadableImages(reasons)
