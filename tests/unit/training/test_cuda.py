"""What only a GPU shows: these wait for one elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.runner.failures import failure_of
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState
from worker.training.model import backbones

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
CUDA = torch.device("cuda:0")
DATA = tiny_data()
SHORT = Recipe(epochs=4, batch_size=8, learning_rate=1e-2, precision="float32")
BATCH = 512
PHOTOS = tiny_data(train=BATCH, validation=64, side=128, channels=3)
LARGE = Recipe(epochs=1, batch_size=BATCH, learning_rate=1e-3, batch_norm="frozen")
"""With the pretrained statistics, the portions of a batch give the gradients of the whole."""


def _train(recipe: Recipe, resume: FitState | None = None) -> Iterator[EpochResult]:
    return fit(
        TrainingRequest(tiny_backbone(DATA), DATA, recipe, seed=0, device=CUDA, resume=resume)
    )


def _large(recipe: Recipe = LARGE) -> EpochResult:
    model = backbones.build(
        Model(backbone="resnet18", weights="none"), classes=PHOTOS.classes, seed=0
    )
    return next(fit(TrainingRequest(model, PHOTOS, recipe, seed=0, device=CUDA)))


@pytest.fixture
def memory() -> Iterator[None]:
    """Whatever a test takes of the device, the next finds all of it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def _leave(bytes_left: float) -> None:
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(bytes_left / total)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd"},
        {"optimizer": "adam", "clip_norm": 1.0},
        {"optimizer": "muon"},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"frozen_stages": 1},
        {"frozen_stages": 2},
        {"frozen_stages": 2, "unfreeze_every": 1},
        {"lora_rank": 2, "layer_decay": 0.5, "l2_sp": 0.01},
        {"ema_decay": 0.5},
        {"swa_epochs": 2},
        {"adaptation_grid": 2},
        {"micro_batch_size": 3},
        {"augmentation": "trivial", "random_erasing": 0.5},
        {"augmentation": "rand", "mixup": 0.2, "cutmix": 0.2},
        {"head": "mlp", "head_width": 16, "label_smoothing": 0.1, "class_weights": "balanced"},
    ],
    ids=str,
)
def test_every_option_learns(options: dict[str, object]) -> None:
    recipe = Recipe.model_validate({**SHORT.model_dump(), "epochs": 30, **options})
    first, *_, last = _train(recipe)
    assert last.metrics["loss"] < first.metrics["loss"]
    assert last.trial_value > 0.5


def test_a_step_is_the_cpus_but_for_rounding() -> None:
    recipe = Recipe(
        epochs=1, batch_size=22, learning_rate=1e-3, precision="float32", optimizer="sgd"
    )
    states: list[dict[str, torch.Tensor]] = []
    for device in (CPU, CUDA):
        model = tiny_backbone(DATA)
        # Each device draws its own random numbers.
        model.network.drop = nn.Identity()
        list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=device)))
        states.append({name: value.cpu() for name, value in model.state_dict().items()})
    on_cpu, on_cuda = states
    for name, value in on_cpu.items():
        torch.testing.assert_close(on_cuda[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_training_carries_on_from_a_state_of_its_own(tmp_path: Path, precision: str) -> None:
    recipe = SHORT.model_copy(update={"precision": precision})
    whole = [epoch.metrics["loss"] for epoch in _train(recipe)]
    for epoch in _train(recipe):
        if epoch.epoch == 1:
            epoch.state().save(tmp_path / "state")
            break
    rest = [
        epoch.metrics["loss"] for epoch in _train(recipe, FitState.load(tmp_path / "state"))
    ]
    assert rest == pytest.approx(whole[2:], rel=0.02)


def test_a_state_of_a_gpu_carries_on_on_a_cpu(tmp_path: Path) -> None:
    next(_train(SHORT)).state().save(tmp_path / "state")
    state = FitState.load(tmp_path / "state")
    rest = list(
        fit(TrainingRequest(tiny_backbone(DATA), DATA, SHORT, seed=0, device=CPU, resume=state))
    )
    assert [epoch.epoch for epoch in rest] == [1, 2, 3]


def test_features_on_disk_are_those_computed(tmp_path: Path) -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": 2})
    losses: list[list[float]] = []
    for cache in (None, FeatureCache(tmp_path), FeatureCache(tmp_path)):
        epochs = fit(
            TrainingRequest(
                tiny_backbone(DATA), DATA, recipe, seed=0, device=CUDA, features_cache=cache
            )
        )
        losses.append([epoch.train_loss for epoch in epochs])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)


@pytest.mark.usefixtures("memory")
def test_a_batch_that_does_not_fit_is_computed_in_portions_and_gives_the_same_loss() -> None:
    whole = _large()
    assert whole.micro_batch_size is None
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    _leave(peak / 2)
    portioned = _large()
    assert portioned.micro_batch_size is not None
    assert portioned.micro_batch_size < BATCH
    assert torch.cuda.max_memory_allocated() <= peak
    assert portioned.train_loss == pytest.approx(whole.train_loss, rel=0.02)


@pytest.mark.usefixtures("memory")
def test_a_network_that_does_not_fit_at_all_is_out_of_memory() -> None:
    smallest = LARGE.model_copy(update={"batch_size": 2, "optimizer": "adamw"})
    _leave(100e6)
    with pytest.raises(RuntimeError) as raised:
        _large(smallest)
    failed = failure_of(raised.value)
    assert failed.error == "oom"
    assert not failed.retryable


@pytest.mark.usefixtures("memory")
def test_a_training_leaves_nothing_on_the_device() -> None:
    _large()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        _large()
    assert torch.cuda.memory_allocated() <= before
