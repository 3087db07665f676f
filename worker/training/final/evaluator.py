"""What a final evaluation needs of every candidate: its data, its network, its answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.data import Seal, Split, TaskData
from worker.data.modality import InputSpec
from worker.data.roots import Roots
from worker.data.targets import Target
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, precision_of
from worker.training.features import features
from worker.training.loop.state import FitState
from worker.training.loop.training import load_weights
from worker.training.model import backbones, heads
from worker.training.model.averaging import average
from worker.training.model.backbones import Backbone
from worker.training.model.card import Precision
from worker.training.model.freezing import Freezing
from worker.training.model.heads import Head
from worker.training.model.user_backbones import OwnBackbones
from worker.training.objective.evaluate import answers_of


@dataclass(frozen=True, slots=True)
class Told:
    """What a model answered to a split.

    Attributes:
        outputs: The outputs of its last layer, `(N, width)`.
        labels: The labels of the same rows.
        precision: The name of what it computed in.
        head_precision: The same of its head.
    """

    outputs: Tensor
    labels: Tensor
    precision: Precision
    head_precision: Precision


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The task of a study and the machine that its models are evaluated on.

    Attributes:
        task: The task that was learned.
        model: The pretrained model that its trials began with; `of` gives one for those that began with another.
        cache_dir: The folder of decoded data sets.
        device: The device that the models are measured on.
        download: Whether a public data set that is not there may be fetched.
        roots: The folders that data may be read from; None allows what no roots allow.
        weights_dir: The folder of published weights; None is torch's cache and the working directory.
        own: The backbones that are registered on this worker.
    """

    task: Task
    model: Model
    cache_dir: Path
    device: torch.device
    download: bool = False
    roots: Roots | None = None
    weights_dir: Path | None = None
    own: OwnBackbones | None = None
    _test: dict[InputSpec, Split] = field(default_factory=dict[InputSpec, Split])

    def of(self, model: Model | None) -> "Evaluator":
        """Return the same for trials that began with this model; the splits that are open are shared. None: its own."""
        return self if model in (None, self.model) else replace(self, model=model)

    def load(self, recipe: Recipe) -> TaskData:
        """Open the data that a recipe's trial saw; raises as `data.load`."""
        return data.load(
            self.task,
            cache_dir=self.cache_dir,
            wanted=self._wanted(recipe),
            few=recipe.shots,
            download=self.download,
            roots=self.roots,
        )

    def open_test(self, recipe: Recipe, seal: Seal) -> Split:
        """Open the test split in the form that a recipe's trial saw, once for each form; raises as `data.open_test`."""
        wanted = self._wanted(recipe)
        if wanted not in self._test:
            self._test[wanted] = data.open_test(
                self.task,
                seal,
                cache_dir=self.cache_dir,
                wanted=wanted,
                download=self.download,
                roots=self.roots,
            )
        return self._test[wanted]

    def _wanted(self, recipe: Recipe) -> InputSpec:
        return backbones.input_spec(self.model, recipe, self.own, self.weights_dir)

    def trained(self, recipe: Recipe, state: FitState, seen: TaskData) -> Freezing:
        """Build a trial's network on the device, with the weights of its state.

        Raises:
            CheckpointIncompatible: `state` is another model's.
            WeightsError, BackboneError: The pretrained model cannot be had.
        """
        network = self._build(seen, state.seed, heads.of(recipe, seen.kind))
        # As it was trained: another layout of the weights may round otherwise.
        network.to(self.device).to(memory_format=network.input.memory_format)
        trained = Freezing(network, recipe)
        trained.redraw(state.seed)
        load_weights(trained, state)
        return trained

    def before(self, seen: TaskData, seed: int) -> Backbone:
        """Build the pretrained model as it was: with its own head if that knows the classes, else an untrained one."""
        head = Head(signed=seen.kind != "classification")
        return self._build(seen, seed, head).to(self.device)

    def _build(self, seen: TaskData, seed: int, head: Head) -> Backbone:
        return backbones.build(
            self.model,
            classes=seen.outputs,
            seed=seed,
            weights_dir=self.weights_dir,
            own=self.own,
            head=head,
        )

    def told(self, trained: Freezing, seen: TaskData, part: str, split: Split) -> Told:
        """Ask a trained model about a split, in what its trial computed in: its value is the one that was reported.

        Args:
            trained: The model, on the device.
            seen: The data that it was trained on.
            part: The name of the split.
            split: The split, in the form that the model takes.
        """
        # No cache: nothing that is made of the test split may stay on the disk.
        forward, place = features.means_of(
            trained, seen, self.device, cache=None, each_batch=lambda: None
        )
        placed, recipe = place(part, split), trained.recipe
        answers = answers_of(
            trained.model,
            placed,
            forward,
            micro_batches=MicroBatches(recipe.micro_batch_size),
            precision=recipe.precision,
        )
        precision = precision_of(recipe.precision, self.device)
        of_head = "float32" if placed.full_precision else precision
        return Told(answers.outputs, answers.labels, precision, of_head)

    def told_before(self, before: Backbone, recipe: Recipe, placed: PlacedSplit) -> Told:
        """Ask the pretrained model about a split, in the precision of a recipe."""
        answers = answers_of(
            before,
            placed,
            micro_batches=MicroBatches(recipe.micro_batch_size),
            precision=recipe.precision,
        )
        precision = precision_of(recipe.precision, self.device)
        return Told(answers.outputs, answers.labels, precision, precision)


def averaged(
    outputs: Sequence[Tensor],
    of: Sequence[TaskData],
    unit: TaskData,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the outputs of the average of some models, those of one as they are.

    Args:
        outputs: The outputs of each model.
        of: The data that each was trained on; numbers are normalised by them.
        unit: The data in whose mean and deviation numbers are told.
        weights: The weight of each model; None: all alike.
    """
    if len(outputs) == 1 and _targets(of[0]) == _targets(unit):
        return outputs[0]
    return average(outputs, [_targets(seen) for seen in of], _targets(unit), weights)


def _targets(seen: TaskData) -> tuple[Target, ...]:
    return () if seen.kind == "classification" else seen.targets
