"""The final evaluation of a study's winner: the one place that opens the sealed test split."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data
from worker.data import Seal, TaskData
from worker.training import backbones, card, objectives
from worker.training.backbones import Backbone
from worker.training.evaluate import Scores, evaluate
from worker.training.export import export, make_card
from worker.training.fit import load_weights
from worker.training.own_backbones import OwnBackbones
from worker.training.placement import PlacedSplit
from worker.training.probe import features_of, linear_probe
from worker.training.state import FitState


@dataclass(frozen=True, slots=True)
class FinalScores:
    """What the winner does on pictures that nothing before has seen, beside the model it began with.

    Attributes:
        validation_accuracy: Of the winner, again.
        test_accuracy: Of the winner, in [0, 1].
        test_loss: Its mean cross-entropy.
        test_count: Pictures in the test split.
        test_accuracy_before: Of the pretrained model before any training on this task: with its own head where
            that knows all the classes, else with the untrained head.
        linear_probe_test_accuracy: Of a linear classifier on the pretrained model's frozen features.
    """

    validation_accuracy: float
    test_accuracy: float
    test_loss: float
    test_count: int
    test_accuracy_before: float
    linear_probe_test_accuracy: float


def final_evaluation(
    task: Task,
    model: Model,
    recipe: Recipe,
    state: FitState,
    *,
    seal: Seal,
    cache_dir: Path,
    download: bool = False,
    weights_dir: Path | None = None,
    own: OwnBackbones | None = None,
    device: torch.device,
    export_to: Path | None = None,
) -> FinalScores:
    """Measure the winner once on the sealed test split, and what it began with.

    Args:
        task: What was learned.
        model: The pretrained model that it began with.
        recipe: The winner's.
        state: Of the winner's best epoch.
        seal: The right to open the test split.
        cache_dir: Of the data room.
        download: Whether a public data set that is not there may be fetched.
        weights_dir: As for `backbones.build`.
        own: The same.
        device: Where.
        export_to: Where to write the winner as a model file, with these scores on its card.

    Raises:
        DataError: The data are missing or broken.
        WeightsError: The pretrained weights cannot be had.
        BackboneError: The backbone is not registered here.
        CheckpointIncompatible: `state` is another model's.
    """
    size = backbones.image_size(model, recipe, own)
    seen = data.load(
        task, cache_dir=cache_dir, image_size=size, few=recipe.shots, download=download
    )
    winner, before = (
        backbones.build(
            model, classes=seen.classes, seed=state.seed, weights_dir=weights_dir, own=own
        )
        for _ in range(2)
    )
    load_weights(winner, state, recipe)
    test = data.open_test(task, seal, cache_dir=cache_dir, image_size=size, download=download)
    sealed = PlacedSplit(test, device)
    scores = _compare(winner.to(device), before.to(device), seen, sealed, recipe)
    if export_to is not None:
        described = make_card(
            winner,
            seen,
            recipe=recipe,
            seed=state.seed,
            scores=card.Scores(**asdict(scores)),
            pretrained=model,
        )
        export(export_to, winner, card=described)
    return scores


def _compare(
    winner: Backbone, before: Backbone, seen: TaskData, sealed: PlacedSplit, recipe: Recipe
) -> FinalScores:
    train, validation = (
        PlacedSplit(split, sealed.device) for split in (seen.train, seen.validation)
    )
    known = [features_of(before, split) for split in (train, validation, sealed)]
    if before.own_head is not None:
        before.head.load_state_dict(before.own_head)
    objective = objectives.of(seen, recipe)

    def measured(model: Backbone, split: PlacedSplit) -> Scores:
        return evaluate(model, split, objective, precision=recipe.precision)

    after = measured(winner, sealed)
    return FinalScores(
        validation_accuracy=measured(winner, validation).metrics["accuracy"],
        test_accuracy=after.metrics["accuracy"],
        test_loss=after.loss,
        test_count=after.count,
        test_accuracy_before=measured(before, sealed).metrics["accuracy"],
        linear_probe_test_accuracy=linear_probe(*known, classes=len(seen.classes)),
    )
