"""What a worker found when it began: the record that stays with the trial."""

from collections.abc import Iterator, Sequence

import torch

from trimtab.contract.records import (
    MOST_CLASSES,
    MOST_NAMED,
    MOST_TENSORS,
    ClassCount,
    Environment,
    LoadedWeights,
    Names,
    TrialRecord,
)
from worker.data import TaskData
from worker.training.placement import computes_in_bfloat16
from worker.training.weights import WeightsReport


def record_of(
    data: TaskData, weights: WeightsReport | None, device: torch.device
) -> TrialRecord:
    """Say what a training begins with.

    Args:
        data: What it sees.
        weights: What became of the pretrained weights; None where there are none.
        device: Where it runs.
    """
    return TrialRecord(
        data_sha256=data.sha256,
        split_sha256=data.split_sha256 or None,
        pictures=dict(data.counts),
        classes=len(data.classes),
        class_counts=tuple(_class_counts(data))[:MOST_CLASSES],
        labels_used=len(data.train),
        skipped=data.skipped,
        duplicates=data.duplicates,
        weights=None if weights is None else _loaded(weights),
        notes=data.notes[:MOST_NAMED],
        environment=Environment(
            device=_name_of(device),
            precision="bfloat16" if computes_in_bfloat16(device) else "float32",
            torch=torch.__version__,
        ),
    )


def _class_counts(data: TaskData) -> Iterator[ClassCount]:
    counts = data.class_counts
    if counts:
        columns = (counts["train"], counts["validation"], counts["test"])
        for name, train, validation, test in zip(data.classes, *columns, strict=True):
            yield ClassCount(name=name, train=train, validation=validation, test=test)


def _loaded(weights: WeightsReport) -> LoadedWeights:
    return LoadedWeights(
        source=weights.source,
        matched=_names(weights.matched),
        left_out=_names(weights.left_out),
        missing=_names(weights.missing),
        unused=_names(weights.unused),
    )


def _names(names: Sequence[str]) -> Names:
    return Names(count=len(names), first=tuple(names[:MOST_TENSORS]))


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return str(device)
