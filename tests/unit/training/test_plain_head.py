"""Which trainings are a plain linear head, and what that changes."""

from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_columns, tiny_data
from tests.support.tiny import CPU, plain_backbone
from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.features import features, frozen_prefix
from worker.training.loop import linear_head
from worker.training.loop.distillation import Lessons
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.linear_head import LinearHead
from worker.training.model import heads
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.objective import objectives

DATA = tiny_data()
PROBE = Recipe(epochs=3, batch_size=8, learning_rate=1e-2, frozen_stages=1)


def _backbone(data: TaskData = DATA, recipe: Recipe = PROBE) -> Backbone:
    return plain_backbone(data, head=heads.of(recipe, data.kind))


def _float16(*_: object) -> torch.dtype:
    return torch.float16


def _nothing(*_: object) -> None:
    return None


def _head_of(
    recipe: Recipe, data: TaskData = DATA, lessons: Lessons | None = None
) -> LinearHead | None:
    freezing = Freezing(_backbone(data, recipe), recipe)
    inputs = features.inputs_of(freezing, data, CPU, cache=None, each_batch=lambda: None)
    return linear_head.of(inputs, objectives.of(data, recipe), recipe, lessons)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "clip_norm": 0.5},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "adamw", "ema_decay": 0.5},
        {"optimizer": "muon", "swa_epochs": 2},
    ],
    ids=lambda options: str(options["optimizer"]),
)
def test_a_probe_trains_as_it_would_by_the_graph(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    recipe = PROBE.model_copy(update=options)

    def trained() -> tuple[list[float], dict[str, Tensor]]:
        curve: list[float] = []
        state: dict[str, Tensor] = {}
        for epoch in fit(TrainingRequest(_backbone(), DATA, recipe, seed=1, device=CPU)):
            curve += [epoch.train_loss, *epoch.metrics.values()]
            state = {**epoch.state().weights, **epoch.state().moments}
        return curve, state

    curve, state = trained()
    assert _head_of(recipe) is not None
    monkeypatch.setattr(linear_head, "of", _nothing)
    by_graph = trained()
    torch.testing.assert_close(curve, by_graph[0])
    torch.testing.assert_close(state, by_graph[1])


def test_where_pictures_are_computed_in_float16_a_head_learns_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def curve() -> list[object]:
        return [
            (epoch.train_loss, epoch.metrics)
            for epoch in fit(TrainingRequest(_backbone(), DATA, PROBE, seed=1, device=CPU))
        ]

    in_single = curve()
    monkeypatch.setattr("worker.training.loop.fit.dtype_of", _float16)
    assert curve() == in_single


@pytest.fixture
def two_threads() -> Generator[None]:
    """Let torch divide its work."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_head_is_trained_and_measured_by_one_thread() -> None:
    seen: list[int] = []
    epochs = fit(
        TrainingRequest(
            _backbone(),
            DATA,
            PROBE,
            seed=1,
            device=CPU,
            each_batch=lambda: seen.append(torch.get_num_threads()),
        )
    )
    seen.clear()  # What the frozen stages were computed with.
    for _ in epochs:
        assert torch.get_num_threads() == 2
    assert set(seen) == {1}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("head", [None, LinearHead(nn.Linear(256, 129))], ids=["none", "large"])
def test_larger_work_keeps_all_threads(head: LinearHead | None) -> None:
    with linear_head.few_threads(head):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"class_weights": "balanced"},
        {"head": "mlp"},
        {"head_dropout": 0.5},
        {"micro_batch_size": 4},
        {"frozen_stages": 0},
        {"augmentation": "flip"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_asks_for_more_than_plain_steps_is_left_to_the_graph(
    options: dict[str, object],
) -> None:
    assert _head_of(PROBE.model_copy(update=options)) is None


def test_other_tasks_are_left_to_the_graph() -> None:
    assert _head_of(PROBE, tiny_columns("regression")) is None


def test_what_a_teacher_says_is_left_to_the_graph() -> None:
    lessons = Lessons(answers=torch.zeros_like, temperature=1.0, weight=0.5)
    assert _head_of(PROBE, lessons=lessons) is None


def test_a_layer_with_hooks_is_more_than_a_layer() -> None:
    backbone = _backbone()
    halves = frozen_prefix.cut(backbone, 1)
    assert halves is not None
    assert halves.layer is backbone.head
    watched = _backbone()
    watched.head.register_forward_hook(_nothing)
    halves = frozen_prefix.cut(watched, 1)
    assert halves is not None
    assert halves.layer is None
