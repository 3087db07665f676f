"""Averages of weights: which weights are measured and kept, beside those that are trained."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.data import Split
from worker.training.device.micro_batches import MicroBatches
from worker.training.features import features
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.optim import weight_averages

DATA = tiny_data()
PLAIN = Recipe(epochs=4, batch_size=11, learning_rate=1e-2, schedule="constant")


def _run(recipe: Recipe, model: Backbone | None = None) -> tuple[Backbone, list[EpochResult]]:
    model = model or tiny_backbone(DATA)
    return model, list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)))


def _weights(recipe: Recipe) -> list[dict[str, Tensor]]:
    """The floating-point state after each epoch."""
    model = tiny_backbone(DATA)
    return [
        _floats(model) for _ in fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU))
    ]


def _floats(model: Backbone) -> dict[str, Tensor]:
    state: dict[str, Tensor] = model.network.state_dict()
    return {name: value.clone() for name, value in state.items() if value.is_floating_point()}


def test_the_moving_average_is_that_of_the_weights_after_each_step() -> None:
    one_step = PLAIN.model_copy(update={"batch_size": 64})
    trained = _weights(one_step)
    expected = trained[0]
    for now in trained[1:]:
        expected = {name: 0.75 * value + 0.25 * now[name] for name, value in expected.items()}
    model, _ = _run(one_step.model_copy(update={"ema_decay": 0.75}))
    for name, value in _floats(model).items():
        torch.testing.assert_close(value, expected[name])


def test_a_moving_average_does_not_change_what_is_trained() -> None:
    _, plain = _run(PLAIN)
    _, averaged = _run(PLAIN.model_copy(update={"ema_decay": 0.9}))
    assert [one.train_loss for one in averaged] == [one.train_loss for one in plain]
    assert [one.metrics for one in averaged] != [one.metrics for one in plain]


def test_the_last_epochs_are_averaged_alike() -> None:
    trained = _weights(PLAIN)
    model, results = _run(PLAIN.model_copy(update={"swa_epochs": 2}))
    for name, value in _floats(model).items():
        if "running" not in name:
            torch.testing.assert_close(value, (trained[2][name] + trained[3][name]) / 2)
    _, plain = _run(PLAIN)
    assert [one.value for one in results[:2]] == [one.value for one in plain[:2]]
    assert [one.train_loss for one in results] == [one.train_loss for one in plain]


def test_an_average_of_epochs_has_statistics_of_its_own() -> None:
    recipe = PLAIN.model_copy(update={"swa_epochs": 3})
    model, _ = _run(recipe)
    before = _floats(model)
    inputs = features.inputs_of(
        Freezing(model, recipe), DATA, CPU, cache=None, each_batch=lambda: None
    )
    weight_averages.estimate_statistics(Freezing(model, recipe), inputs.train, inputs.forward)
    after = _floats(model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    pictures = model.input(torch.from_numpy(DATA.train.inputs))
    mean = model.network.get_submodule("conv")(pictures).mean(dim=(0, 2, 3))
    torch.testing.assert_close(after["bn.running_mean"], mean, rtol=2e-2, atol=1e-3)


def test_statistics_are_estimated_without_dropout_and_leave_momentum_alone() -> None:
    model = tiny_backbone(DATA)
    inputs = features.inputs_of(
        Freezing(model, PLAIN), DATA, CPU, cache=None, each_batch=lambda: None
    )
    weight_averages.estimate_statistics(Freezing(model, PLAIN), inputs.train, inputs.forward)
    assert not any(module.training for module in model.modules())
    assert model.network.get_submodule("bn").momentum == 0.1


def test_statistics_are_those_of_all_classes_where_pictures_lie_class_by_class() -> None:
    data = tiny_data(train=90)
    rows = data.train.labels.argsort(kind="stable")
    data = replace(data, train=Split(data.train.inputs[rows], data.train.labels[rows]))
    model = tiny_backbone(data)
    inputs = features.inputs_of(
        Freezing(model, PLAIN), data, CPU, cache=None, each_batch=lambda: None
    )

    def variance(batch_size: int) -> float:
        micro_batches = MicroBatches(batch_size, least=2)
        weight_averages.estimate_statistics(
            Freezing(model, PLAIN), inputs.train, inputs.forward, micro_batches=micro_batches
        )
        return _floats(model)["bn2.running_var"].sum().item()

    assert variance(30) == pytest.approx(variance(90), rel=0.1)


def test_frozen_statistics_are_not_estimated_again() -> None:
    recipe = PLAIN.model_copy(update={"frozen_stages": 1, "swa_epochs": 4})
    model, _ = _run(recipe)
    assert torch.equal(_floats(model)["bn.running_mean"], torch.zeros(4))
    assert not torch.equal(_floats(model)["bn2.running_mean"], torch.zeros(24))


def test_the_best_point_between_pretrained_and_trained_weights_is_kept() -> None:
    recipe = PLAIN.model_copy(update={"adaptation_grid": 4, "epochs": 2})
    _, plain = _run(recipe.model_copy(update={"adaptation_grid": 0}))
    _, found = _run(recipe)
    for one, other in zip(found, plain, strict=True):
        assert one.train_loss == other.train_loss
        assert one.value >= other.value
        assert one.metrics["adaptation_weight"] in (0.0, 0.25, 0.5, 0.75, 1.0)


def test_each_point_of_the_grid_is_measured_once() -> None:
    calls: list[None] = []
    recipe = PLAIN.model_copy(update={"adaptation_grid": 4, "epochs": 1})
    for _ in fit(
        TrainingRequest(
            tiny_backbone(DATA),
            DATA,
            recipe,
            seed=0,
            device=CPU,
            each_batch=lambda: calls.append(None),
        )
    ):
        pass
    training, points = 2, 5
    assert len(calls) == training + points


def test_a_training_that_destroys_what_was_known_is_taken_back() -> None:
    good, _ = _run(PLAIN.model_copy(update={"epochs": 30}))
    good.known_head = {
        name: value.detach().clone() for name, value in good.head.state_dict().items()
    }
    wrong = Split(DATA.train.inputs, (DATA.train.labels + 1) % 3)
    recipe = PLAIN.model_copy(update={"epochs": 20, "adaptation_grid": 2})
    *_, last = fit(
        TrainingRequest(good, replace(DATA, train=wrong), recipe, seed=1, device=CPU)
    )
    assert last.value == 1.0
    assert last.metrics["adaptation_weight"] == 0.0
    assert torch.equal(_floats(good)["fc.weight"], good.known_head["weight"])


def test_a_new_head_stays_as_it_was_trained() -> None:
    recipe = PLAIN.model_copy(update={"epochs": 1})
    trained, _ = _run(recipe)
    shown, _ = _run(recipe.model_copy(update={"adaptation_grid": 5}))
    assert torch.equal(_floats(shown)["fc.weight"], _floats(trained)["fc.weight"])


@pytest.mark.parametrize("changes", [{"ema_decay": 0.9}, {"swa_epochs": 2}])
def test_a_state_for_evaluation_holds_what_was_measured_and_no_more(
    changes: dict[str, float],
) -> None:
    recipe = PLAIN.model_copy(update=changes)
    model = tiny_backbone(DATA)
    for result in fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)):
        light = result.state(whole=False)
        shown = _floats(model)
        assert all(torch.equal(light.weights[name], value) for name, value in shown.items())
        assert light.averages == {}
        if result.epoch == 3:
            assert result.state().averages
