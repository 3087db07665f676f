"""Train and validation together, as one training split: what a chosen recipe learns from anew."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker import disk_cache
from worker.data import cache
from worker.data.cache import Split, Stored
from worker.data.loading import TaskData

_ROWS_AT_ONCE = 256


def with_validation(data: TaskData, cache_dir: Path | None = None) -> TaskData:
    """Return a task whose training split is train followed by validation, and whose validation split is empty.

    All else stays what it was. The classes, and the mean and deviation that normalise a regression's targets, are those
    of the training split alone, so that the outputs of a model trained on either mean the same and can be averaged.
    Where few labelled samples of train are kept (`shots`), these and the whole validation split are learned from.

    Args:
        data: The task, as its trials have it.
        cache_dir: The folder that `load` takes, which then keeps both splits' samples in one more file for all
            processes of the machine; None puts them together in memory.

    Raises:
        CacheUnwritable: The folder cannot be written to.
    """
    train, hold = _together(data, cache_dir)
    return replace(
        data,
        hold=(*data.hold, hold),
        train=train,
        validation=Split(data.validation.inputs[:0], data.validation.labels[:0]),
        key=f"{data.key}+validation" if data.key else "",
    )


def _together(data: TaskData, cache_dir: Path | None) -> tuple[Split, disk_cache.Hold | None]:
    train, validation = data.train, data.validation
    rows = None
    if train.rows is not None:
        behind = np.arange(len(validation), dtype=np.int64) + len(train.inputs)
        rows = np.concatenate([train.rows, behind])
    labels = np.concatenate([train.labels, validation.labels])
    if cache_dir is None or not data.key:
        inputs = np.concatenate([train.inputs, validation.inputs])
        return Split(inputs, labels, rows), None
    folder = cache_dir / f"{data.key}-merged"
    hold = cache.hold(folder)
    cache.folder_once(folder, partial(_write, train.inputs, validation.inputs))
    return Split(np.load(folder / "train.npy", mmap_mode="c"), labels, rows), hold


def _write(train: Stored, validation: Stored, folder: Path) -> None:
    shape = (len(train) + len(validation), *train.shape[1:])
    pieces = (piece for part in (train, validation) for piece in _pieces(part))
    cache.write_array(folder / "train.npy", pieces, train.dtype, shape)


def _pieces(inputs: Stored) -> Iterator[NDArray[np.uint8 | np.int32]]:
    for start in range(0, len(inputs), _ROWS_AT_ONCE):
        yield inputs[start : start + _ROWS_AT_ONCE]
