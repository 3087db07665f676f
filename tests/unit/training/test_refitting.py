"""Training on train and validation together: as many epochs as a trial kept, and nothing is measured."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.pictures import tiny_columns, tiny_data
from tests.support.tiny import CPU, same_tensors, tiny_backbone
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data as data_room
from worker.data import Split, TaskData, with_validation
from worker.training.errors import NothingToChooseBy
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState
from worker.training.model import backbones

DATA = tiny_data()
BOTH = with_validation(DATA)
SHORT = Recipe(epochs=4, batch_size=8, learning_rate=1e-2)
DIGITS = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
GLYPHNET = Model(backbone="glyphnet", weights="default")


def _train(data: TaskData, recipe: Recipe, **options: object) -> list[EpochResult]:
    request = TrainingRequest(tiny_backbone(data), data, recipe, seed=3, device=CPU)
    return list(fit(replace(request, **options)))  # type: ignore[arg-type]


def test_an_epoch_goes_over_both_splits_and_is_worth_its_training_loss() -> None:
    request = TrainingRequest(tiny_backbone(BOTH), BOTH, SHORT, seed=3, device=CPU)
    seen: list[int] = []
    request.model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    epochs = fit(request)
    seen.clear()
    result = next(epochs)
    # 22 + 9 pictures, each once, and no validation.
    assert sum(seen) == 31
    assert result.value == result.trial_value == result.train_loss
    assert result.metrics == {}
    assert [each.kept for each in (result, *epochs)] == [True] * 4


def test_the_weights_are_those_of_a_plain_training_on_the_same_rows() -> None:
    rows = BOTH.train
    plain = replace(DATA, train=Split(rows.inputs, rows.labels))
    models = [tiny_backbone(DATA) for _ in range(2)]
    for model, data in zip(models, (BOTH, plain), strict=True):
        list(fit(TrainingRequest(model, data, SHORT, seed=3, device=CPU)))
    assert same_tensors(models[0].state_dict(), models[1].state_dict())


def test_it_ends_after_as_many_epochs_as_it_is_given_in_the_schedule_of_all() -> None:
    recipe = SHORT.model_copy(update={"early_stopping_patience": 1})
    whole, short = _train(BOTH, recipe), _train(BOTH, recipe, epochs=2)
    assert [each.train_loss for each in short] == [each.train_loss for each in whole[:2]]
    assert [each.last for each in short] == [False, True]
    assert len(_train(BOTH, recipe, epochs=9)) == 4


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"ema_decay": 0.7},
        {"swa_epochs": 3},
        {"frozen_stages": 2},
        {"lora_rank": 2},
        {"adaptation_grid": 2},
        {"ema_decay": 0.7, "swa_epochs": 3, "adaptation_grid": 4},
    ],
    ids=str,
)
def test_it_resumes_bit_by_bit(tmp_path: Path, option: dict[str, object]) -> None:
    recipe = SHORT.model_copy(update=option)
    whole, again = tiny_backbone(BOTH), tiny_backbone(BOTH)
    request = TrainingRequest(whole, BOTH, recipe, seed=3, device=CPU, adaptation_weight=0.5)
    epochs = fit(request)
    next(epochs).state().save(tmp_path / "state")
    rest = [result.train_loss for result in epochs]
    state = FitState.load(tmp_path / "state")
    resumed = fit(replace(request, model=again, resume=state))
    assert [result.train_loss for result in resumed] == rest
    assert same_tensors(whole.state_dict(), again.state_dict())


def test_averaged_weights_are_kept_as_a_trial_keeps_them() -> None:
    for option in ({"ema_decay": 0.7}, {"swa_epochs": 3}):
        recipe = SHORT.model_copy(update=option)
        *_, without = _train(BOTH, recipe)
        plain = replace(DATA, train=BOTH.train)
        *_, with_one = _train(plain, recipe)
        assert same_tensors(dict(without.state().weights), dict(with_one.state().weights))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_point_between_pretrained_and_trained_weights_is_the_one_that_is_given(
    weight: float,
) -> None:
    recipe = SHORT.model_copy(update={"adaptation_grid": 2, "batch_norm": "frozen"})
    model, start = tiny_backbone(BOTH), tiny_backbone(BOTH).network.state_dict()
    *_, last = fit(
        TrainingRequest(model, BOTH, recipe, seed=3, device=CPU, adaptation_weight=weight)
    )
    trained = last.state().averages["live/conv.weight"]
    mixed = torch.lerp(start["conv.weight"], trained, weight)
    assert torch.equal(model.network.state_dict()["conv.weight"], mixed)
    assert last.state().progress.adaptation_weight == weight


def test_a_grid_without_a_point_or_a_split_to_choose_by_is_refused_in_words() -> None:
    recipe = SHORT.model_copy(update={"adaptation_grid": 2})
    with pytest.raises(NothingToChooseBy, match="give it the point that its trial has kept"):
        _train(BOTH, recipe)
    assert len(_train(DATA, recipe)) == 4


def test_outputs_of_numbers_mean_what_they_mean_in_the_trial() -> None:
    data = tiny_columns("regression")
    moved = replace(
        data, validation=Split(data.validation.inputs, data.validation.labels + 1000)
    )
    assert with_validation(moved).targets == data.targets


@pytest.mark.parametrize("frozen_stages", [0, 1000])
def test_digits_are_learned_from_both_splits_with_the_real_backbone(
    tmp_path: Path, frozen_stages: int
) -> None:
    digits = data_room.load(DIGITS, cache_dir=tmp_path / "data", few=8)
    both = with_validation(digits, tmp_path / "data")
    assert len(both.train) == 80 + 359
    recipe = Recipe(epochs=3, batch_size=64, learning_rate=3e-3, frozen_stages=frozen_stages)
    cache = FeatureCache(tmp_path / "features")

    def train(data: TaskData) -> tuple[EpochResult, dict[str, torch.Tensor]]:
        model = backbones.build(GLYPHNET, classes=data.classes, seed=0)
        *_, last = fit(
            TrainingRequest(model, data, recipe, seed=0, device=CPU, features_cache=cache)
        )
        return last, model.state_dict()

    # The trial first: its features are of other rows, and must not be found by the refit.
    trial, _ = train(digits)
    refit, weights = train(both)
    assert trial.metrics["accuracy"] == trial.value
    assert math.isfinite(refit.value)
    in_memory, the_same = train(with_validation(digits))
    assert in_memory.train_loss == refit.train_loss
    assert same_tensors(weights, the_same)
