"""A training between two epochs or two batches: everything that the rest of it depends on, and its file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from torch import Tensor

from trimtab.contract.message import Message
from worker.training import safetensors_files
from worker.training.device import memory_format
from worker.training.device.threads import Threads
from worker.training.errors import CheckpointIncompatible, CheckpointUnreadable

_FORMAT = 5
"""Stands in every file: a release that reads another format refuses the file in words."""
_OF_BEST_EPOCHS = 4
"""The format of releases that kept the best epoch of a training; it is still read."""
_KEY = "trimtab.checkpoint"
# A safetensors file has one flat space of names. A prefix keeps a weight apart from its average and its moments.
_WEIGHTS, _OPTIMIZER, _AVERAGES, _PART, _VALIDATION = (
    "weights/",
    "optimizer/",
    "averages/",
    "part/",
    "validation/",
)
_LOSS, _GENERATOR = "loss", "generator/"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, and what it is worth (`choice.EpochRule`).

    Attributes:
        epochs: The number of finished epochs.
        kept_epoch: The epoch whose state is kept, counted from 0; -1 before the first epoch is over.
        kept_values: The objective values of the last epochs up to that one, as many as are averaged.
        recent: The objective values of the last epochs, as many as are averaged.
        bar: The objective value that early stopping compares with.
        stale: The number of epochs since the bar was last raised.
        adaptation_weight: The point between pretrained and trained weights that the kept state is; None without a grid.
        kept_metrics: All that was measured on the validation split after the kept epoch, by name.
        seconds: The seconds that the finished epochs took; no part of what the training comes to.
    """

    epochs: int = 0
    kept_epoch: int = -1
    kept_values: tuple[float, ...] = ()
    recent: tuple[float, ...] = ()
    bar: float = 0.0
    stale: int = 0
    adaptation_weight: float | None = None
    kept_metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    seconds: float = field(default=0.0, compare=False)

    @property
    def averaged(self) -> range:
        """The epochs whose values `kept_values` are."""
        return range(self.kept_epoch + 1 - len(self.kept_values), self.kept_epoch + 1)

    @property
    def valued(self) -> frozenset[int]:
        """The epochs that this has values of."""
        return frozenset(range(self.epochs - len(self.recent), self.epochs)) | {*self.averaged}

    @property
    def value(self) -> float:
        """The objective value that the training is compared by.

        Raises:
            StatisticsError: No epoch is over.
        """
        return fmean(self.kept_values)


@dataclass(frozen=True, slots=True)
class PartOfEpoch:
    """How far an epoch is that was left between two batches.

    Attributes:
        steps: The number of steps that are done; all of them, if it was left during the validation.
        samples: The number of samples in those steps.
        loss: The sum of their losses, a float64 scalar.
        generators: The states of the random generators after those steps, by name.
    """

    steps: int
    samples: int
    loss: Tensor
    generators: Mapping[str, Tensor]


class _Part(Message):
    steps: int
    samples: int


class _Header(Message):
    format: int
    seed: int
    optimizer: str
    frozen_stages: int
    frozen_sha256: str
    progress: Progress
    threads: Threads
    part: _Part | None
    orders: dict[str, tuple[int, ...]]
    """Dimensions in memory order, by name, of tensors that do not lie in the order of their dimensions.

    The file holds such a tensor as it lies in memory. To lay it out again would cost a copy, and a training that
    resumes with another layout may round otherwise.
    """


@dataclass(frozen=True, slots=True)
class FitState:
    """What `fit` resumes from.

    Learning rate, data order, augmentation and dropout are functions of seed and epoch, so none of them is in here,
    except where an epoch was left between two batches.

    Attributes:
        seed: The seed of the training.
        optimizer: The optimizer's name in the recipe.
        progress: Epochs finished, what is kept and its worth, early stopping's counters.
        threads: The numbers of threads that the training goes on with.
        frozen_stages: The number of stages, counted from the input, that no epoch trains. Their weights are
            not in here.
        frozen_sha256: The sha256 of all pretrained weights that the training builds upon.
        weights: State dict of the rest of the network, on the CPU; with LoRA, its factors in place of the weights
            that they move.
        moments: Tensors of the optimizer, named `<parameter>:<moment>`, on the CPU. A name tells which parameter a
            moment belongs to, where a position would mean another one as soon as a group has another member.
        averages: Tensors that the averages of the weights carry from epoch to epoch (`Averages.tensors`).
        part: The part that is done of an epoch that was left; None between two epochs.
        answers: The answers to the validation rows (`validation_outputs.answers_of`) after the epochs that `progress` has
            values of, by the number of the epoch.
    """

    seed: int
    optimizer: str
    frozen_stages: int
    frozen_sha256: str
    progress: Progress
    threads: Threads
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    averages: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    part: PartOfEpoch | None = None
    answers: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])

    @property
    def epoch(self) -> int:
        """The last finished epoch, from 0; -1 if there is none."""
        return self.progress.epochs - 1

    def save(self, path: Path) -> str:
        """Write a safetensors file and return its sha256; what is not a tensor stands as JSON in its metadata.

        Raises:
            OSError: The disk does not take it.
        """
        tensors = self._tensors()
        orders = {
            name: memory_format.dimension_order(tensor)
            for name, tensor in tensors.items()
            if not tensor.is_contiguous()
        }
        # Permuted to its memory order, such a tensor is contiguous, and is written without a copy.
        header = _Header(
            format=_FORMAT,
            seed=self.seed,
            optimizer=self.optimizer,
            frozen_stages=self.frozen_stages,
            frozen_sha256=self.frozen_sha256,
            progress=self.progress,
            threads=self.threads,
            part=None
            if self.part is None
            else _Part(steps=self.part.steps, samples=self.part.samples),
            orders=orders,
        )
        lying = {name: tensors[name].permute(order) for name, order in orders.items()}
        return safetensors_files.write(path, tensors | lying, {_KEY: header.model_dump_json()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointUnreadable: It is missing, cut short, or no checkpoint of ours.
            CheckpointIncompatible: Another release wrote it in another format.
        """
        try:
            tensors, metadata = safetensors_files.read(path)
            header = _header(path, metadata[_KEY])
            for name, order in header.orders.items():
                tensors[name] = memory_format.from_dimension_order(tensors[name], order)
        except (KeyError, TypeError) as error:
            raise CheckpointUnreadable(path, "it is not one of trimtab's") from error
        except (safetensors_files.SafetensorError, OSError, ValueError) as error:
            raise CheckpointUnreadable(path, str(error)) from error
        return cls(
            seed=header.seed,
            optimizer=header.optimizer,
            frozen_stages=header.frozen_stages,
            frozen_sha256=header.frozen_sha256,
            progress=header.progress,
            threads=header.threads,
            weights=_named(tensors, _WEIGHTS),
            moments=_named(tensors, _OPTIMIZER),
            averages=_named(tensors, _AVERAGES),
            part=None if header.part is None else _part(header.part, _named(tensors, _PART)),
            answers={
                int(epoch): tensor for epoch, tensor in _named(tensors, _VALIDATION).items()
            },
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"{prefix}{name}": tensor
            for prefix, tensors in (
                (_WEIGHTS, self.weights),
                (_OPTIMIZER, self.moments),
                (_AVERAGES, self.averages),
                (_PART, {} if self.part is None else _tensors_of(self.part)),
                (_VALIDATION, {str(epoch): tensor for epoch, tensor in self.answers.items()}),
            )
            for name, tensor in tensors.items()
        }


def _header(path: Path, text: str) -> _Header:
    fields = json.loads(text)
    # The format comes first: fields of another format would be reported as a broken file.
    found = fields["format"]
    if found == _OF_BEST_EPOCHS:
        progress = _of_best_epoch(fields["progress"])
        text = json.dumps({**fields, "format": _FORMAT, "progress": progress})
    elif found != _FORMAT:
        raise CheckpointIncompatible(
            f"{path}: written in format {found}, this release reads {_FORMAT}"
        )
    return _Header.model_validate_json(text)


def _of_best_epoch(told: Mapping[str, Any]) -> dict[str, Any]:
    """Read the progress of a release that kept the best epoch and did not tell the others' values.

    Until another epoch is over, the training is worth what it was in that release. Means begin with the next value.
    """
    begun = told["epochs"] > 0
    return {
        "epochs": told["epochs"],
        "kept_epoch": told["best_epoch"],
        "kept_values": [told["best_value"]] if begun else [],
        "bar": told["bar"],
        "stale": told["stale"],
    }


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _tensors_of(part: PartOfEpoch) -> dict[str, Tensor]:
    generators = {f"{_GENERATOR}{name}": state for name, state in part.generators.items()}
    return {_LOSS: part.loss, **generators}


def _part(header: _Part, tensors: Mapping[str, Tensor]) -> PartOfEpoch:
    return PartOfEpoch(
        header.steps, header.samples, tensors[_LOSS], _named(tensors, _GENERATOR)
    )
