"""From a task to its splits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trimtab.contract.datasets import (
    BuiltinDataset,
    CsvDataset,
    ImageFolderDataset,
    JsonlDataset,
    TableDataset,
    TorchvisionDataset,
)
from trimtab.contract.metrics import Direction, TaskKind
from trimtab.contract.records import (
    MOST_NAMED,
    Duplicates,
    LeftOut,
    Part,
    Skipped,
    SkippedFile,
)
from trimtab.contract.tasks import Task
from worker import disk_cache
from worker.data import cache, decoding, shots, table, targets
from worker.data.cache import Split
from worker.data.decoding import Encoder
from worker.data.errors import ModalityUnfit
from worker.data.images import folder
from worker.data.images.digits import Digits
from worker.data.images.encoding import Images
from worker.data.images.folder import ImageFolder
from worker.data.images.picture_files import ImageHeader
from worker.data.images.torchvision_sets import VisionSet
from worker.data.modality import ANY_SIDE, Encoding, ImageSpec, InputSpec, TokenSpec
from worker.data.roots import Roots
from worker.data.seal import Seal
from worker.data.source import Source
from worker.data.table import Table
from worker.data.targets import Target

_FORMAT = 4
"""Part of every key: a change of layout or of the decoding makes old caches invisible."""


@dataclass(frozen=True, slots=True)
class TaskData:
    """What a trial may see of a task: everything but the sealed test split.

    Attributes:
        train: Samples that are learned from.
        validation: Samples that trials are compared by; empty where they are learned from too (`with_validation`).
        classes: Class names of a single classification; a label is a position here.
        sha256: Hash of every sample's content and name, those of the test split included.
        counts: Samples in `train`, `validation` and `test`.
        notes: Sentences about the splits that a person should know.
        split_sha256: Hash of which sample is in which split; empty where nobody knows.
        class_counts: Samples of each class in each split.
        skipped: Bad files, which were left out.
        left_out: Files and folders beside the samples, by the reason why they are none.
        duplicates: Samples of the same content.
        key: Changes whenever a byte of `train` or `validation` may have changed; empty where nobody knows.
        metric: Name of the metric that trials are compared by.
        direction: Whether more or less of the metric is better.
        kind: The task's kind.
        targets: The columns that are learned; each has a column in labels `(N, targets)`.
        modality: Name of the kind of data that the samples are.
        details: Facts on how they are stored (`Encoding.details`).
        hold: The objects that keep the samples in the cache; their samples are at hand for as long as these are kept.
    """

    train: Split
    validation: Split
    classes: tuple[str, ...]
    sha256: str
    counts: Mapping[Part, int]
    notes: tuple[str, ...] = ()
    split_sha256: str = ""
    class_counts: Mapping[Part, Sequence[int]] = field(
        default_factory=dict[Part, Sequence[int]]
    )
    skipped: Skipped = field(default_factory=Skipped)
    left_out: tuple[LeftOut, ...] = ()
    duplicates: Duplicates = field(default_factory=Duplicates)
    key: str = ""
    metric: str = "accuracy"
    direction: Direction = "maximize"
    kind: TaskKind = "classification"
    targets: tuple[Target, ...] = ()
    modality: str = Images.name
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    hold: tuple[disk_cache.Hold | None, ...] = field(default=(), repr=False, compare=False)

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
    wanted: InputSpec = ANY_SIDE,
    few: int | None = None,
    download: bool = False,
    roots: Roots | None = None,
) -> TaskData:
    """Open what a trial trains on and is measured by; decode the data set if this machine has not yet.

    Args:
        task: Data set and split.
        cache_dir: Keeps decoded samples, for all processes of this machine.
        wanted: The form of samples that the network takes (`backbones.input_spec`).
        few: The number of labelled samples of each class that `train` keeps (`shots`); None keeps all.
        download: Whether a public data set that is not there may be fetched.
        roots: The folders that may be read; None allows what no roots allow.

    Raises:
        DataError: The data set is missing, broken or nothing that could be learned from.
    """
    with disk_cache.opening(cache_dir):
        decoded, encoding, left_out = _stored(
            task, cache_dir, wanted, roots or Roots(), download=download
        )
        hold = cache.hold(decoded)
    manifest = json.loads((decoded / "manifest.json").read_text())
    targets.check_measurable(task, _place(task), manifest["different"])
    train = cache.open_split(decoded, "train")
    # Chosen after decoding and by row number, not copied: a study over several numbers of shots has one cache, and
    # what is computed of all samples serves every one of them.
    if few is not None:
        rows = shots.choose(train.labels, few, draws=np.load(decoded / "train.draws.npy"))
        train = replace(train, labels=train.labels[rows], rows=rows)
    return TaskData(
        train=train,
        validation=cache.open_split(decoded, "validation"),
        classes=tuple(manifest["classes"]),
        sha256=manifest["sha256"],
        counts=manifest["counts"],
        notes=tuple(manifest["notes"]),
        split_sha256=manifest["split_sha256"],
        class_counts=manifest["class_counts"],
        skipped=_skipped(manifest["skipped"]),
        left_out=left_out,
        duplicates=Duplicates.model_validate(manifest["duplicates"], strict=False),
        key=decoded.name,
        metric=task.metric,
        direction=task.direction,
        kind=task.kind,
        targets=targets.targets_of(task, manifest["target_classes"], train.labels),
        modality=task.dataset.modality,
        details=encoding.details,
        hold=(hold,),
    )


def open_test(
    task: Task,
    seal: Seal,
    *,
    cache_dir: Path,
    wanted: InputSpec = ANY_SIDE,
    download: bool = False,
    roots: Roots | None = None,
) -> Split:
    """Open the sealed test split. Only the final evaluation of a study's winner does.

    Args:
        task: The data set and its split.
        seal: The right to open it.
        cache_dir: The folder that `load` takes.
        wanted: The form of samples that the network takes.
        download: Whether a public data set that is not there may be fetched.
        roots: The folders that `load` takes.

    Raises:
        DataError: The data set is missing, broken or nothing that could be learned from.
    """
    del seal  # To have it is what counts.
    with disk_cache.opening(cache_dir):
        decoded, *_ = _stored(task, cache_dir, wanted, roots or Roots(), download=download)
        return cache.open_split(decoded, "test")


def _stored(
    task: Task, cache_dir: Path, wanted: InputSpec, roots: Roots, *, download: bool
) -> tuple[Path, Encoding, tuple[LeftOut, ...]]:
    """Return the folder of the stored splits, how they are stored, and what was left out by reason."""
    dataset = task.dataset
    match wanted:
        case TokenSpec() if isinstance(dataset, TableDataset) and dataset.texts:
            # Imported here, as its tokenizers are: tasks of pictures do without.
            from worker.data.text import preparing
            from worker.data.text.table import TextTable

            table = TextTable(roots.resolve(dataset.path), dataset, task)
            folder, encoding = preparing.prepared(table, cache_dir, wanted)
            # Not kept with the samples, which a table of other names may share.
            details = {**encoding.details, "columns": dataset.texts}
            return folder, replace(encoding, details=details), ()
        case ImageSpec() if dataset.modality == "image":
            return _decoded(task, cache_dir, wanted, roots, download=download)
        case TokenSpec():
            raise ModalityUnfit(dataset.modality, "text")
        case ImageSpec():
            raise ModalityUnfit(dataset.modality, "image")


def _decoded(
    task: Task, cache_dir: Path, wanted: ImageSpec, roots: Roots, *, download: bool
) -> tuple[Path, Encoding, tuple[LeftOut, ...]]:
    """Return the folder of the decoded splits, how they are stored, and what was left out by reason."""
    roots = Roots(roots.folders)  # Links may have changed since the last look.
    source, modality = _open_source(task, roots, download=download), Images()
    # Two names. The fingerprint is cheap and asked for at every load; it tells whether the facts are still those of the
    # files. The hash of the content then names the decoded data, so that a data set that was moved is found again.
    # With the roots, so that facts about files that may no longer be read are not remembered.
    name = hashlib.sha256(
        f"{_FORMAT} {roots.folders} {source.fingerprint}".encode()
    ).hexdigest()
    facts = cache.json_once(
        cache_dir / "facts" / f"{name}.json", partial(decoding.read_facts, source, modality)
    )
    encoding = modality.encoding(facts, wanted)
    key = f"{_FORMAT} {facts['sha256']} {task.validation} {task.test} {encoding.key}"
    # A table may name other columns as targets while its pictures stay: other labels, other data.
    if isinstance(source, Table):
        kinds = [target.kind for target in task.targets]
        key += f" {json.dumps(source.target_classes)} {kinds}"
    if isinstance(source, ImageFolder):
        key += f" {source.division}"
    if left_out := [*decoding.bad_rows(source), *sorted(facts["bad"])]:
        # Told with what is left: when somebody has removed the bad ones, nothing is to be told of them.
        key += f" {json.dumps(left_out)}"
    decoded = cache.folder_once(
        cache_dir / hashlib.sha256(key.encode()).hexdigest(),
        partial(decoding.fill, source, task, facts, Encoder(modality, encoding)),
    )
    if task.on_bad_file == "fail":
        # Another study, which leaves them out, may have filled the cache.
        decoding.refuse(source, json.loads((decoded / "manifest.json").read_text())["skipped"])
    # Not from the manifest, which a data set shares with its like: elsewhere other files may lie beside the same pictures.
    found = decoding.told(source.left_out) if isinstance(source, ImageFolder) else ()
    looked_into = (LeftOut.model_validate(one, strict=False) for one in facts["left_out"])
    return decoded, encoding, (*found, *looked_into)


def _open_source(
    task: Task, roots: Roots, *, download: bool
) -> Source[ImageHeader, Image.Image]:
    match task.dataset:
        case BuiltinDataset():
            return Digits()
        case ImageFolderDataset(path=path, group=group):
            return folder.scan(roots.resolve(path), group, roots)
        case TorchvisionDataset(name=name, root=root):
            return VisionSet(name, roots.resolve(root), download=download, roots=roots)
        case CsvDataset(path=path) | JsonlDataset(path=path) as dataset:
            return table.scan(roots.resolve(path), dataset, task, roots)


def _place(task: Task) -> str:
    match task.dataset:
        case BuiltinDataset(name=name):
            return name
        case ImageFolderDataset(path=path) | CsvDataset(path=path) | JsonlDataset(path=path):
            return path
        case TorchvisionDataset(name=name, root=root):
            return f"{name} in {root}"


def _skipped(bad: Mapping[str, str]) -> Skipped:
    first = [SkippedFile(path=path, reason=why) for path, why in list(bad.items())[:MOST_NAMED]]
    return Skipped(count=len(bad), first=tuple(first))
