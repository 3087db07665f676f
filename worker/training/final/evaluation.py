"""The final evaluation of a study's winner: the one place that opens the sealed test split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher
from worker import data
from worker.data import Seal, Split, TaskData
from worker.data.roots import Roots
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, precision_of
from worker.training.features import features
from worker.training.final.probe import features_of, linear_probe
from worker.training.loop.state import FitState
from worker.training.loop.training import load_weights
from worker.training.model import backbones, card, heads
from worker.training.model.backbones import Backbone
from worker.training.model.export import export, make_card
from worker.training.model.freezing import Freezing
from worker.training.model.heads import Head
from worker.training.model.user_backbones import OwnBackbones
from worker.training.objective import objectives
from worker.training.objective.evaluate import Scores, evaluate


@dataclass(frozen=True, slots=True)
class FinalScores:
    """What the winner does on samples that nothing before has seen, beside the model it began with.

    Attributes:
        objective: Name of the metric that trials were compared by.
        test_count: Number of samples in the test split.
        validation: Metrics of the winner on the validation split, again.
        test: Metrics of the winner on the test split.
        before: Metrics of the pretrained model before any training on this task: with its own head if that knows all
            the classes, else with an untrained linear one.
        linear_probe: Metrics of a linear model on the pretrained model's frozen features.
        precision: Name of what the winner computed in.
        head_precision: The same of its head.
    """

    objective: str
    test_count: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    before: Mapping[str, float]
    linear_probe: Mapping[str, float]
    precision: card.Precision
    head_precision: card.Precision

    @property
    def value(self) -> float:
        """The objective of the winner on the test split."""
        return self.test[self.objective]

    def by_name(self) -> dict[str, float]:
        """Everything measured, such as `test_accuracy`, `test_accuracy_before` and `linear_probe_test_accuracy`."""
        return {
            "test_count": float(self.test_count),
            **{f"validation_{name}": value for name, value in self.validation.items()},
            **{f"test_{name}": value for name, value in self.test.items()},
            **{f"test_{name}_before": value for name, value in self.before.items()},
            **{f"linear_probe_test_{name}": value for name, value in self.linear_probe.items()},
        }


def final_evaluation(
    task: Task,
    model: Model,
    recipe: Recipe,
    state: FitState,
    *,
    seal: Seal,
    cache_dir: Path,
    download: bool = False,
    roots: Roots | None = None,
    weights_dir: Path | None = None,
    own: OwnBackbones | None = None,
    device: torch.device,
    before_opening: Callable[[TaskData], object] = lambda _: None,
    export_to: Path | None = None,
    teacher: Teacher | None = None,
) -> FinalScores:
    """Measure the winner once on the sealed test split, and what it began with.

    Args:
        task: The task that was learned.
        model: The pretrained model that it began with.
        recipe: The recipe of the winner.
        state: The state that the winner has kept.
        seal: The right to open the test split.
        cache_dir: The folder of decoded data sets.
        download: Whether a public data set that is not there may be fetched.
        roots: The folders that data may be read from; None allows what no roots allow.
        weights_dir: The folder of published weights; None is torch's cache and the working directory.
        own: The backbones that are registered on this worker.
        device: The device that it is measured on.
        before_opening: Called with the other splits when all else is ready; what it raises leaves the test split sealed.
        export_to: File to write the winner to, with these scores on its card; None writes none.
        teacher: The model whose answers the winner may have learned; None: nobody taught it.

    Raises:
        DataError: The data are missing or broken.
        WeightsError: The pretrained weights cannot be had.
        BackboneError: The backbone is not registered here.
        CheckpointIncompatible: `state` is another model's.
    """
    wanted = backbones.input_spec(model, recipe, own)
    seen = data.load(
        task,
        cache_dir=cache_dir,
        wanted=wanted,
        few=recipe.shots,
        download=download,
        roots=roots,
    )
    make = partial(
        backbones.build,
        model,
        classes=seen.outputs,
        seed=state.seed,
        weights_dir=weights_dir,
        own=own,
    )
    winner = make(head=heads.of(recipe, seen.kind))
    before = make(head=Head(signed=seen.kind != "classification"))
    trained = _trained(winner, recipe, state, device)
    # The test split comes last: whatever goes wrong up to here leaves it sealed.
    before_opening(seen)
    test = data.open_test(
        task, seal, cache_dir=cache_dir, wanted=wanted, download=download, roots=roots
    )
    scores = _compare(trained, before.to(device), seen, test, device)
    if export_to is not None:
        described = _card(trained, seen, state.seed, scores, pretrained=model, teacher=teacher)
        export(export_to, winner, card=described)
    return scores


def _trained(
    winner: Backbone, recipe: Recipe, state: FitState, device: torch.device
) -> Freezing:
    """Give the winner, which has its pretrained weights, the weights that it has kept."""
    # As it was trained: another layout of the weights may round otherwise.
    winner.to(device).to(memory_format=winner.input.memory_format)
    trained = Freezing(winner, recipe)
    load_weights(trained, state)
    return trained


def _card(
    trained: Freezing,
    seen: TaskData,
    seed: int,
    scores: FinalScores,
    *,
    pretrained: Model,
    teacher: Teacher | None,
) -> card.ModelCard:
    """Describe the winner for its file."""
    recipe = trained.recipe
    return make_card(
        trained.model,
        seen,
        recipe=recipe,
        seed=seed,
        scores=_on_card(scores),
        pretrained=pretrained,
        # A teacher of the task that the recipe gave no weight has taught this model nothing.
        teacher=teacher if recipe.distillation_weight else None,
        precision=scores.precision,
        head_precision=scores.head_precision,
    )


def _on_card(scores: FinalScores) -> card.Scores:
    measured = scores.by_name()
    own = {name: measured[name] for name in card.Scores.model_fields if name in measured}
    return card.Scores.model_validate(
        {
            **own,
            "objective": scores.objective,
            "metrics": measured,
            "test_count": scores.test_count,
        }
    )


def _compare(
    trained: Freezing,
    before: Backbone,
    seen: TaskData,
    test: Split,
    device: torch.device,
) -> FinalScores:
    winner, recipe = trained.model, trained.recipe
    placed = [PlacedSplit(split, device) for split in (seen.train, seen.validation, test)]
    known = [features_of(before, split) for split in placed]
    objective = objectives.of(seen, recipe)

    def measured(
        model: Backbone, split: PlacedSplit, forward: Callable[[Tensor], Tensor] | None = None
    ) -> Scores:
        micro_batches = MicroBatches(recipe.micro_batch_size)
        return evaluate(
            model,
            split,
            objective,
            forward,
            micro_batches=micro_batches,
            precision=recipe.precision,
        )

    # The winner is measured in what its trial computed in, so that its value is the one that was reported. No cache:
    # nothing that is made of the test split may stay on the disk.
    forward, place = features.means_of(
        trained, seen, device, cache=None, each_batch=lambda: None
    )
    test_inputs = place("test", test)
    after = measured(winner, test_inputs, forward)
    precision = precision_of(recipe.precision, device)
    return FinalScores(
        objective=objective.metric,
        test_count=after.count,
        validation=measured(winner, place("validation", seen.validation), forward).metrics,
        test=after.metrics,
        before=measured(before, placed[-1]).metrics,
        linear_probe=linear_probe(
            *known, objective=objectives.of(seen, Recipe()), outputs=len(seen.outputs)
        ),
        precision=precision,
        head_precision="float32" if test_inputs.full_precision else precision,
    )
