"""A training that is left between two batches goes on from there, with the bits of the uninterrupted one."""

from pathlib import Path

import pytest

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, plain_backbone, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.errors import Interrupted
from worker.training.loop.epochs import next_epochs
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training
from worker.training.model.backbones import Backbone

DATA = tiny_data()
SHORT = Recipe(epochs=2, batch_size=8, learning_rate=1e-2)

OPTIONS = [
    {},
    {"optimizer": "sgd", "momentum": 0.9, "schedule": "one_cycle"},
    {"ema_decay": 0.7},
    {"swa_epochs": 2},
    {"adaptation_grid": 2},
    {"swa_epochs": 1, "ema_decay": 0.7, "adaptation_grid": 2},
    {"micro_batch_size": 3},
    {"lora_rank": 2},
    {"frozen_stages": 2, "unfreeze_every": 1},
    {"augmentation": "flip_crop", "mixup": 0.4, "cutmix": 1.0, "random_erasing": 0.5},
    {"augmentation": "flip_crop", "frozen_stages": 1, "micro_batch_size": 3},
    {"early_stopping_patience": 1, "clip_norm": 0.5},
]


class Bell:
    """Asks to leave at one call after the training has begun, the first being number 1."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.calls, self.has_begun = at, 0, False

    def __call__(self) -> None:
        self.calls += self.has_begun
        if self.has_begun and self.calls == self.at:
            raise Interrupted


def _begin(
    model: Backbone, recipe: Recipe, bell: Bell, state: FitState | None = None
) -> Training:
    training = begin(
        TrainingRequest(model, DATA, recipe, seed=3, device=CPU, resume=state, each_batch=bell)
    )
    bell.has_begun = True
    return training


def _curve(training: Training) -> list[tuple[float, float]]:
    """Train to the end, or to where it is left."""
    found: list[tuple[float, float]] = []
    while not training.ended:
        (epoch,) = next_epochs([training])
        if isinstance(epoch, Interrupted):
            return found
        assert not isinstance(epoch, Exception), epoch
        found.append((epoch.train_loss, epoch.metrics["loss"]))
    return found


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_a_training_left_before_any_batch_goes_on_bit_by_bit(
    tmp_path: Path, option: dict[str, object]
) -> None:
    recipe = Recipe.model_validate({**SHORT.model_dump(), **option})
    whole, bell = tiny_backbone(DATA), Bell()
    curve = _curve(_begin(whole, recipe, bell))
    for at in range(1, bell.calls + 1):
        left = _begin(tiny_backbone(DATA), recipe, Bell(at))
        before = _curve(left)
        left.state().save(tmp_path / "state")
        model, state = tiny_backbone(DATA), FitState.load(tmp_path / "state")
        assert [*before, *_curve(_begin(model, recipe, Bell(), state))] == curve
        assert same_tensors(whole.state_dict(), model.state_dict())
        # Left a second time, before its first batch.
        twice = _begin(tiny_backbone(DATA), recipe, Bell(1), state)
        assert _curve(twice) == []
        rest = _curve(_begin(tiny_backbone(DATA), recipe, Bell(), twice.state()))
        assert rest == curve[len(before) :]


def test_a_state_says_how_far_its_epoch_is() -> None:
    left = _begin(tiny_backbone(DATA), SHORT, Bell(3))
    assert _curve(left) == []
    part = left.state().part
    assert part is not None
    assert (part.steps, part.samples) == (2, 16)
    assert left.state().epoch == -1
    assert _curve(left)
    assert left.state().part is None


def test_a_head_ends_its_epoch_before_it_is_left() -> None:
    probe = SHORT.model_copy(update={"frozen_stages": 1})
    bell = Bell(2)
    left = _begin(plain_backbone(DATA), probe, bell)
    assert len(_curve(left)) == 2
    assert bell.calls > 2
    assert left.state().part is None
