"""Texts are adapted as pictures are: every word of the recipe means the same."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.support.text_models import folder_of, tiny_texts
from tests.support.tiny import CPU, same_tensors
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker.data import Split, TaskData
from worker.training.errors import Interrupted
from worker.training.features.feature_cache import FeatureCache
from worker.training.final.evaluator import Evaluator
from worker.training.loop.epochs import epochs_of
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training, load_weights
from worker.training.model import backbones, heads
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.objective.evaluate import answers_of

SHORT = Recipe(epochs=2, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def texts(folder: Path) -> TaskData:
    return tiny_texts(folder)


def _model(folder: Path, recipe: Recipe = SHORT, **fields: Any) -> Backbone:
    model = Model(backbone="bert", weights=str(folder), **fields)
    head = heads.of(recipe, "classification")
    return backbones.build(model, classes=("no", "yes"), seed=1, head=head)


def _begun(folder: Path, texts: TaskData, recipe: Recipe, **request: Any) -> Training:
    model = _model(folder, recipe)
    return begin(TrainingRequest(model, texts, recipe, seed=3, device=CPU, **request))


def _curve(training: Training) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.metrics["loss"]) for epoch in epochs_of(training)]


def test_it_learns_what_can_be_learned(folder: Path, texts: TaskData) -> None:
    *_, last = epochs_of(_begun(folder, texts, SHORT.model_copy(update={"epochs": 12})))
    assert last.value == 1.0


def test_rare_classes_of_texts_weigh_more_as_those_of_pictures_do(
    folder: Path, texts: TaskData
) -> None:
    labels = np.array([0] * 36 + [1] * 12)
    rare = replace(texts, train=Split(texts.train.inputs, labels))
    recipe = SHORT.model_copy(update={"class_weights": "balanced"})
    learner = _begun(folder, rare, recipe).learner
    outputs = learner.model.eval()(torch.from_numpy(rare.train.inputs))
    loss = learner.objective.loss(outputs, torch.from_numpy(labels))
    # A class's weight times its number of texts is the same for both.
    weights = torch.tensor([48 / (2 * 36), 48 / (2 * 12)])
    wanted = functional.cross_entropy(outputs, torch.from_numpy(labels), weights)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    plain = functional.cross_entropy(outputs, torch.from_numpy(labels))
    assert wanted.item() != pytest.approx(plain.item(), rel=1e-3)


OPTIONS: list[Mapping[str, Any]] = [
    {},
    {"ema_decay": 0.7, "swa_epochs": 1, "adaptation_grid": 2},
    {"lora_rank": 2},
    {"reinit_layers": 2, "lora_rank": 2, "l2_sp": 0.1},
    {"frozen_stages": 3, "unfreeze_every": 1},
    {"frozen_stages": 2, "pooling": "max"},
    {"word_dropout": 0.5, "micro_batch_size": 3, "pooling": "cls"},
    {"optimizer": "muon", "layer_decay": 0.7, "reinit_layers": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_training_that_is_left_goes_on_with_the_bits_of_the_uninterrupted_one(
    folder: Path, texts: TaskData, options: Mapping[str, Any], tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update=options)
    whole = _begun(folder, texts, recipe)
    wanted = _curve(whole)

    calls = iter(range(100))

    def leave_in_the_second_epoch() -> None:
        if left.has_begun and next(calls) == 9:
            raise Interrupted

    class left:  # noqa: N801 - a flag
        has_begun = False

    training = _begun(folder, texts, recipe, each_batch=leave_in_the_second_epoch)
    left.has_begun = True
    found: list[tuple[float, float]] = []
    with pytest.raises(Interrupted):
        found += [(one.train_loss, one.metrics["loss"]) for one in epochs_of(training)]
    path = tmp_path / "state"
    training.state().save(path)
    resumed = _begun(folder, texts, recipe, resume=FitState.load(path))
    assert _curve(resumed) == wanted[-1:]
    assert same_tensors(dict(resumed.state().weights), dict(whole.state().weights))

    again = _model(folder, recipe)
    freezing = Freezing(again, recipe)
    freezing.redraw(3)
    load_weights(freezing, whole.state(whole=False))
    stored = torch.from_numpy(texts.validation.inputs)
    assert torch.equal(again.eval()(stored), whole.learner.model.eval()(stored))


@pytest.mark.parametrize("frozen", [1, 3, 4])
def test_frozen_layers_are_computed_once_and_change_nothing(
    folder: Path, texts: TaskData, frozen: int, tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": frozen, "precision": "float32"})
    cache = FeatureCache(tmp_path)
    kept = _begun(folder, texts, recipe, features_cache=cache)
    assert kept.may_group == (frozen == 4)
    found = _curve(kept)
    assert len(list(tmp_path.iterdir())) >= 2
    assert found == _curve(_begun(folder, texts, recipe, features_cache=cache))
    assert found == _curve(_begun(folder, texts, recipe))

    # What is kept and the network as a whole answer alike: to the last bits, since texts are padded in other batches.
    model, inputs = kept.learner.model, kept.learner.inputs
    assert inputs.validation is not None
    validated = answers_of(
        model, inputs.validation, inputs.forward, precision="float32"
    ).outputs
    with torch.no_grad():
        whole = model(torch.from_numpy(texts.validation.inputs))
    torch.testing.assert_close(validated, whole, rtol=1e-4, atol=1e-5)


def test_a_refit_network_is_drawn_as_its_trial_was(
    folder: Path, texts: TaskData, tmp_path: Path
) -> None:
    # With LoRA the state holds its factors alone: what they are added to is drawn again from the trial's seed.
    recipe = SHORT.model_copy(update={"reinit_layers": 2, "lora_rank": 2})
    training = _begun(folder, texts, recipe)
    for _ in epochs_of(training):
        pass
    task = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
    model = Model(backbone="bert", weights=str(folder))
    evaluator = Evaluator(task, model, tmp_path, CPU)
    found = evaluator.trained(recipe, training.state(whole=False), texts).model.eval()
    stored = torch.from_numpy(texts.validation.inputs)
    assert torch.equal(found(stored), training.learner.model.eval()(stored))
