"""The record of what a worker found when a trial began; the service keeps it with the trial."""

import logging
import math
from collections.abc import Iterator, Sequence

import torch

from trimtab.contract.recipe import Recipe
from trimtab.contract.records import (
    MOST_CLASSES,
    MOST_NAMED,
    MOST_TENSORS,
    ClassCount,
    DataFeatures,
    Environment,
    LoadedWeights,
    Names,
    Texts,
    TrialRecord,
)
from worker.data import TaskData
from worker.training.device.placement import precision_of
from worker.training.loop.choice import MANY_ROWS, averaged_epochs
from worker.training.model.freezing import Freezing
from worker.training.model.published_weights import LEAST_SHARE, WeightsReport

log = logging.getLogger(__name__)


def record_of(
    data: TaskData,
    recipe: Recipe,
    device: torch.device,
    *,
    freezing: Freezing | None = None,
    first_micro_batch_size: int | None = None,
    threads: int | None = None,
    devices: int = 1,
    features: DataFeatures | None = None,
) -> TrialRecord:
    """Make the record of a training that is about to begin.

    Args:
        data: The data that it is trained on.
        recipe: The hyperparameters that it is trained with.
        device: The device that it is trained on.
        freezing: The network and what of it is trained; None in a final evaluation, which trains nothing.
        first_micro_batch_size: The number of pictures computed at once, if that is less than a batch.
        threads: The number of threads that compute its steps; None where a GPU does, and in a final evaluation.
        devices: The number of devices that it is trained on.
        features: Statistics of what the backbone makes of the data; None where they are not known.
    """
    weights = None if freezing is None else freezing.model.report
    notes = (
        ()
        if freezing is None
        else (*_notes(freezing, first_micro_batch_size, devices), *_of_value(data))
    )
    return TrialRecord(
        data_sha256=data.sha256,
        split_sha256=data.split_sha256 or None,
        pictures=dict(data.counts),
        classes=len(data.classes),
        class_counts=tuple(_class_counts(data))[:MOST_CLASSES],
        labels_used=len(data.train),
        skipped=data.skipped,
        input_size=int(data.train.inputs.shape[1]),
        features=features,
        left_out=data.left_out,
        duplicates=data.duplicates,
        texts=_texts(data),
        weights=None if weights is None else _loaded(weights),
        notes=(*notes, *data.notes)[:MOST_NAMED],
        environment=Environment(
            device=_name_of(device),
            precision=precision_of(recipe.precision, device),
            torch=torch.__version__,
            threads=threads,
        ),
    )


def log_left_out(name: str, record: TrialRecord) -> None:
    """Tell the log what of the data set's folders is not learned from.

    Args:
        name: The name of the trial.
        record: The trial's record.
    """
    others = [f"{each.count} {each.reason}" for each in record.left_out]
    bad = [f"{record.skipped.count} bad"] if record.skipped.count else []
    if others or bad:
        log.warning(
            "%s: left out of the data: %s; the trial's record names the first of them",
            name,
            ", ".join([*bad, *others]),
        )


def _notes(
    freezing: Freezing, first_micro_batch_size: int | None, devices: int
) -> Iterator[str]:
    recipe = freezing.recipe
    sizes = [
        size for size in (recipe.micro_batch_size, first_micro_batch_size) if size is not None
    ]
    size = min([*sizes, math.ceil(recipe.batch_size / devices)])
    if size < recipe.batch_size and freezing.moving_statistics(recipe.epochs - 1):
        yield (
            f"batches of {recipe.batch_size} are computed {size} pictures at a time, and batch normalisation uses "
            f"the statistics of these {size}: the steps differ from those of whole batches"
        )
    report = freezing.model.report
    if report is not None and report.share < LEAST_SHARE:
        yield (
            f"the weights are those of {int(100 * report.share)} % of {freezing.model.name}: the rest began at random"
        )


def _of_value(data: TaskData) -> Iterator[str]:
    rows = len(data.validation)
    averaged = averaged_epochs(rows)
    if rows and averaged > 1:
        yield (
            f"the value is the mean of the last {averaged} validations up to the epoch that is kept: "
            f"the validation split has {rows} rows, fewer than {MANY_ROWS}"
        )


def _class_counts(data: TaskData) -> Iterator[ClassCount]:
    counts = data.class_counts
    if counts:
        columns = (counts["train"], counts["validation"], counts["test"])
        for name, train, validation, test in zip(data.classes, *columns, strict=True):
            yield ClassCount(name=name, train=train, validation=validation, test=test)


def _texts(data: TaskData) -> Texts | None:
    if data.modality != "text":
        return None
    told = data.details
    return Texts(
        length=told["length"],
        longest=told["longest"],
        cut=told["cut"],
        cut_share=told["cut"] / max(1, told["texts"]),
        unknown_share=told["unknown_share"],
    )


def _loaded(weights: WeightsReport) -> LoadedWeights:
    return LoadedWeights(
        source=weights.source,
        part=weights.part,
        matched=_names(weights.matched),
        left_out=_names(weights.left_out),
        head=weights.head,
        quantised=_names(weights.quantised),
        missing=_names(weights.missing),
        unused=_names(weights.unused),
    )


def _names(names: Sequence[str]) -> Names:
    return Names(count=len(names), first=tuple(names[:MOST_TENSORS]))


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    return str(device)
