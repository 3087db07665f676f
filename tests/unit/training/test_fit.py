"""The training loop: epochs as long as they are asked for, bit by bit repeatable, resumable from any of them."""

import itertools
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.support.pictures import TARGETS, tiny_columns, tiny_data
from tests.support.tiny import CPU, same_tensors, tiny_backbone
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from worker import data as data_room
from worker.data import Split
from worker.training.errors import CheckpointIncompatible, Diverged
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState
from worker.training.model import backbones, heads

DATA = tiny_data()
SHORT = Recipe(epochs=4, batch_size=8, learning_rate=1e-2)
IMPATIENT = Recipe(epochs=50, learning_rate=1e-12, frozen_stages=2, early_stopping_patience=3)
"""Learns nothing, and gives up after three epochs of that."""


def _curve(epochs: Iterator[EpochResult]) -> list[tuple[float, float, float]]:
    return [(e.train_loss, e.metrics["loss"], e.value) for e in epochs]


def _start(recipe: Recipe = SHORT, seed: int = 0) -> Iterator[EpochResult]:
    return fit(TrainingRequest(tiny_backbone(DATA), DATA, recipe, seed=seed, device=CPU))


def test_training_yields_as_many_epochs_as_the_recipe_says() -> None:
    results = list(_start())
    assert [result.epoch for result in results] == [0, 1, 2, 3]
    assert all(result.seconds > 0 for result in results)


def test_nothing_is_trained_until_it_is_asked_for() -> None:
    model = tiny_backbone(DATA)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    epochs = fit(TrainingRequest(model, DATA, SHORT, seed=0, device=CPU))
    assert same_tensors(before, model.state_dict())
    next(epochs)
    assert not same_tensors(before, model.state_dict())


def test_training_learns_what_can_be_learned() -> None:
    recipe = SHORT.model_copy(update={"epochs": 30})
    *_, last = _start(recipe)
    assert last.value == 1.0
    assert last.train_loss < 0.2


def test_the_same_seed_gives_the_same_curve_whatever_the_caller_drew_meanwhile() -> None:
    one = _curve(_start())
    torch.manual_seed(99)
    other: list[tuple[float, float, float]] = []
    for result in _start():
        torch.rand(3)
        other.append((result.train_loss, result.metrics["loss"], result.value))
    assert one == other
    assert one != _curve(_start(seed=1))


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(_start())
    assert torch.equal(torch.rand(3), expected)


_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "unfreeze_every": st.integers(1, 2),
        "layer_decay": st.just(0.5),
        "head_learning_rate": st.just(0.1),
        "batch_norm": st.just("frozen"),
        "lora_rank": st.integers(1, 2),
        "l2_sp": st.just(0.1),
        "clip_norm": st.just(0.5),
        "precision": st.sampled_from(["float32", "bfloat16"]),
        "micro_batch_size": st.sampled_from([1, 4]),
        "ema_decay": st.just(0.7),
        "swa_epochs": st.just(3),
        "adaptation_grid": st.just(2),
    },
)


@settings(max_examples=40)
@given(
    optimizer=st.sampled_from(["sgd", "adam", "adamw", "muon"]),
    schedule=st.sampled_from(["constant", "linear", "cosine", "one_cycle", "step"]),
    options=_OPTIONS,
    warmup=st.sampled_from([0.0, 1.5]),
    momentum=st.sampled_from([0.0, 0.9]),
    frozen_stages=st.integers(0, 2),
    batch_size=st.sampled_from([1, 5, 7, 22, 64]),
    interruptions=st.sets(st.integers(0, 3), min_size=1),
)
def test_a_resumed_training_ends_with_the_weights_of_the_uninterrupted_one_bit_by_bit(
    tmp_path: Path,
    optimizer: str,
    schedule: str,
    options: dict[str, object],
    warmup: float,
    momentum: float,
    frozen_stages: int,
    batch_size: int,
    interruptions: set[int],
) -> None:
    recipe = Recipe.model_validate(
        {
            "epochs": 4,
            "batch_size": batch_size,
            "learning_rate": 1e-2,
            "weight_decay": 1e-2,
            "optimizer": optimizer,
            "schedule": schedule,
            "warmup_epochs": warmup,
            "momentum": momentum,
            "frozen_stages": frozen_stages,
            "step_epochs": 2,
            **options,
        }
    )
    builds_on_pretrained = (
        frozen_stages or {"lora_rank", "l2_sp", "adaptation_grid"} & options.keys()
    )
    whole = tiny_backbone(DATA)
    try:
        curve = _curve(fit(TrainingRequest(whole, DATA, recipe, seed=3, device=CPU)))
    except Diverged:
        reject()  # Single pictures by SGD may: there is no end to come to.

    model, pieces = tiny_backbone(DATA), list[tuple[float, float, float]]()
    epochs = fit(TrainingRequest(model, DATA, recipe, seed=3, device=CPU))
    for epoch in range(recipe.epochs):
        result = next(epochs)
        pieces += _curve(iter([result]))
        if epoch in interruptions:
            result.state().save(tmp_path / "state")
            model = tiny_backbone(DATA, seed=0 if builds_on_pretrained else epoch + 50)
            state = FitState.load(tmp_path / "state")
            epochs = fit(TrainingRequest(model, DATA, recipe, seed=3, device=CPU, resume=state))
    assert list(epochs) == []
    assert pieces == curve
    assert same_tensors(whole.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    "option",
    [
        {"ema_decay": 0.7},
        {"swa_epochs": 3},
        {"adaptation_grid": 2},
        {"micro_batch_size": 3},
        {"lora_rank": 2},
        {"lora_rank": 2, "ema_decay": 0.7},
        {"frozen_stages": 2, "unfreeze_every": 1},
        {"frozen_stages": 2, "unfreeze_every": 1, "swa_epochs": 3},
        {"l2_sp": 0.1},
        {"augmentation": "flip_crop", "mixup": 0.4, "cutmix": 1.0, "random_erasing": 0.5},
        {"augmentation": "trivial", "frozen_stages": 1, "micro_batch_size": 3},
        {"augmentation": "rand", "cutmix": 0.3},
    ],
    ids=str,
)
def test_each_option_resumes_bit_by_bit(tmp_path: Path, option: dict[str, object]) -> None:
    recipe = SHORT.model_copy(update=option)
    whole, again = tiny_backbone(DATA), tiny_backbone(DATA)
    curve = _curve(fit(TrainingRequest(whole, DATA, recipe, seed=3, device=CPU)))
    epochs = fit(TrainingRequest(tiny_backbone(DATA), DATA, recipe, seed=3, device=CPU))
    next(epochs)
    next(epochs).state().save(tmp_path / "state")
    state = FitState.load(tmp_path / "state")
    assert (
        _curve(fit(TrainingRequest(again, DATA, recipe, seed=3, device=CPU, resume=state)))
        == curve[2:]
    )
    assert same_tensors(whole.state_dict(), again.state_dict())


def test_few_labels_train_on_their_pictures_alone_also_through_cached_features() -> None:
    rows = np.array([3, 7, 11, 20], dtype=np.int64)
    train = DATA.train
    few = replace(DATA, train=Split(train.inputs, train.labels[rows], rows))
    copied = replace(DATA, train=Split(train.inputs[rows], train.labels[rows]))
    for frozen_stages in (0, 1):
        recipe = SHORT.model_copy(update={"frozen_stages": frozen_stages, "batch_size": 3})
        curves = [
            _curve(fit(TrainingRequest(tiny_backbone(data), data, recipe, seed=0, device=CPU)))
            for data in (few, copied)
        ]
        assert np.allclose(curves[0], curves[1])


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(
    "options",
    [
        {"head": "mlp", "head_width": 5, "head_dropout": 0.3, "class_weights": "balanced"},
        {"head_dropout": 0.3, "label_smoothing": 0.1, "regression_loss": "huber"},
    ],
)
def test_every_kind_of_task_and_head_learns_and_resumes_bit_by_bit(
    tmp_path: Path, kind: TaskKind, options: dict[str, object]
) -> None:
    recipe = SHORT.model_copy(update={**options, "frozen_stages": 1, "epochs": 8})
    data, head = tiny_columns(kind), heads.of(recipe, kind)
    whole = tiny_backbone(data, head=head)
    first, *_, last = fit(TrainingRequest(whole, data, recipe, seed=3, device=CPU))
    assert last.train_loss < first.train_loss
    epochs = fit(
        TrainingRequest(tiny_backbone(data, head=head), data, recipe, seed=3, device=CPU)
    )
    next(epochs)
    next(epochs).state().save(tmp_path / "state")
    again = tiny_backbone(data, head=head)
    state = FitState.load(tmp_path / "state")
    *_, resumed = fit(TrainingRequest(again, data, recipe, seed=3, device=CPU, resume=state))
    assert (resumed.metrics, resumed.trial_value) == (last.metrics, last.trial_value)
    assert same_tensors(whole.state_dict(), again.state_dict())


def test_the_digits_resume_bit_by_bit_with_the_real_backbone(tmp_path: Path) -> None:
    task = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
    digits = data_room.load(task, cache_dir=tmp_path)
    spec = Model(backbone="glyphnet", weights="default")
    recipe = Recipe(epochs=3, batch_size=64, learning_rate=3e-3)
    whole = backbones.build(spec, classes=digits.classes, seed=0)
    results = fit(TrainingRequest(whole, digits, recipe, seed=0, device=CPU))
    state = next(results).state()
    *_, last = results
    again = backbones.build(spec, classes=digits.classes, seed=1)
    *_, resumed = fit(TrainingRequest(again, digits, recipe, seed=0, device=CPU, resume=state))
    assert astuple(replace(last, seconds=0, _training=None)) == astuple(
        replace(resumed, seconds=0, _training=None)
    )
    assert same_tensors(whole.state_dict(), again.state_dict())
    assert last.value >= 0.98


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_a_state_holds_the_moments_of_the_optimizer(optimizer: str) -> None:
    recipe = Recipe.model_validate({"epochs": 2, "batch_size": 8, "optimizer": optimizer})
    model, again = tiny_backbone(DATA), tiny_backbone(DATA)
    epochs = fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU))
    state = next(epochs).state()
    list(epochs)
    list(fit(TrainingRequest(again, DATA, recipe, seed=0, device=CPU, resume=state)))
    assert same_tensors(model.state_dict(), again.state_dict())


def test_a_state_is_a_copy_that_later_epochs_leave_alone() -> None:
    epochs = _start()
    state = next(epochs).state()
    kept = {name: value.clone() for name, value in state.weights.items()}
    list(epochs)
    assert same_tensors(kept, dict(state.weights))


def test_a_state_that_is_no_copy_is_the_models_own() -> None:
    model = tiny_backbone(DATA)
    *_, last = fit(TrainingRequest(model, DATA, SHORT, seed=0, device=CPU))
    own = model.network.state_dict()
    for name, value in last.state(copy=False).weights.items():
        assert value.data_ptr() == own[name].data_ptr()


@pytest.mark.parametrize("recipe", [SHORT, IMPATIENT])
def test_the_last_epoch_says_so(recipe: Recipe) -> None:
    *others, last = _start(recipe)
    assert last.last
    assert not any(epoch.last for epoch in others)


def test_a_state_cannot_be_taken_of_an_epoch_that_has_passed() -> None:
    epochs = _start()
    first = next(epochs)
    next(epochs)
    with pytest.raises(RuntimeError, match="before the next is asked for"):
        first.state()


def test_resuming_after_the_last_epoch_trains_no_more() -> None:
    *_, last = _start()
    again = fit(
        TrainingRequest(
            tiny_backbone(DATA), DATA, SHORT, seed=0, device=CPU, resume=last.state()
        )
    )
    assert list(again) == []


@pytest.mark.parametrize(
    ("change", "seed", "why"),
    [
        ({"optimizer": "sgd"}, 0, "of adamw"),
        ({}, 1, "seed"),
        ({"frozen_stages": 1}, 0, "another training"),
        ({"l2_sp": 0.1}, 0, "other weights"),
        ({"lora_rank": 2}, 0, "not of tiny"),
    ],
)
def test_a_state_of_another_training_is_refused(
    change: dict[str, object], seed: int, why: str
) -> None:
    state = next(_start()).state()
    recipe = SHORT.model_copy(update=change)
    with pytest.raises(CheckpointIncompatible, match=why):
        fit(
            TrainingRequest(
                tiny_backbone(DATA), DATA, recipe, seed=seed, device=CPU, resume=state
            )
        )


def test_a_state_of_another_model_is_refused() -> None:
    other = tiny_data(classes=2)
    state = next(
        fit(TrainingRequest(tiny_backbone(other), other, SHORT, seed=0, device=CPU))
    ).state()
    with pytest.raises(
        CheckpointIncompatible, match="not of tiny with a head of this kind and 3 outputs"
    ):
        fit(TrainingRequest(tiny_backbone(DATA), DATA, SHORT, seed=0, device=CPU, resume=state))


def test_a_training_that_builds_on_the_pretrained_weights_resumes_upon_no_others() -> None:
    recipe = SHORT.model_copy(update={"lora_rank": 2})
    state = next(_start(recipe)).state()
    with pytest.raises(CheckpointIncompatible, match="other weights of tiny"):
        fit(
            TrainingRequest(
                tiny_backbone(DATA, seed=1), DATA, recipe, seed=0, device=CPU, resume=state
            )
        )


def test_a_precision_that_the_device_is_not_built_for_is_float32_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    half, single = (
        _curve(_start(SHORT.model_copy(update={"precision": precision})))
        for precision in ("float16", "float32")
    )
    assert half == single
    assert "cpu is not built for float16" in caplog.text


def test_a_loss_that_is_not_finite_ends_the_training_at_once() -> None:
    recipe = SHORT.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30, "epochs": 50})
    with pytest.raises(Diverged, match="training loss is not finite in epoch 0") as caught:
        next(_start(recipe))
    assert caught.value.kind == "diverged"


def test_weights_that_are_no_numbers_after_the_last_step_are_found_by_validation() -> None:
    recipe = SHORT.model_copy(
        update={"optimizer": "sgd", "learning_rate": 1e38, "momentum": 0.0, "batch_size": 22}
    )
    with pytest.raises(Diverged, match="validation loss is not finite in epoch 0"):
        next(_start(recipe))


def test_early_stopping_ends_after_so_many_epochs_without_gain() -> None:
    assert len(list(_start(IMPATIENT))) == 4


def test_a_resumed_training_remembers_its_impatience() -> None:
    epochs = _start(IMPATIENT)
    next(epochs)
    state = next(epochs).state()
    rest = fit(
        TrainingRequest(tiny_backbone(DATA), DATA, IMPATIENT, seed=0, device=CPU, resume=state)
    )
    assert len(list(rest)) == 2


@pytest.mark.parametrize("batch_size", [1, 7, 21])
def test_a_single_picture_in_a_batch_does_not_break_batch_normalisation(
    batch_size: int,
) -> None:
    recipe = SHORT.model_copy(update={"batch_size": batch_size, "epochs": 1})
    assert len(list(_start(recipe))) == 1


def test_every_picture_is_learned_from_once_an_epoch() -> None:
    images = np.zeros((10, 8, 8, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = range(10)
    labels = np.arange(10, dtype=np.int64) % 2
    data = replace(DATA, train=Split(images, labels), classes=("a", "b"))
    data = replace(data, validation=Split(images, labels))
    model = tiny_backbone(data)
    seen: list[list[int]] = []
    model.register_forward_pre_hook(
        lambda module, args: (
            seen.append(args[0][:, 0, 0, 0].tolist()) if module.training else None
        )
    )
    recipe = SHORT.model_copy(update={"epochs": 2, "batch_size": 4})
    list(fit(TrainingRequest(model, data, recipe, seed=0, device=CPU)))
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    orders = [[*itertools.chain(*seen[:3])], [*itertools.chain(*seen[3:])]]
    assert [sorted(order) for order in orders] == [list(range(10))] * 2
    assert orders[0] != orders[1]
