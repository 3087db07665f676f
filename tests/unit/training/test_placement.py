"""What a device computes in."""

from typing import Any

import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.device import placement
from worker.training.device.placement import PlacedSplit
from worker.training.loop.fit import TrainingRequest, fit

CUDA = torch.device("cuda")
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16


def _built_for_bfloat16(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    def built(device: torch.device) -> bool:
        return answer

    monkeypatch.setattr(placement, "computes_in_bfloat16", built)


@pytest.mark.parametrize(
    ("device", "built_for_bfloat16", "expected"),
    [
        (CPU, True, {"auto": BFLOAT16, "bfloat16": BFLOAT16, "float16": FLOAT32}),
        (CPU, False, {"auto": FLOAT32, "bfloat16": FLOAT32, "float16": FLOAT32}),
        (CUDA, True, {"auto": BFLOAT16, "bfloat16": BFLOAT16, "float16": FLOAT16}),
        (CUDA, False, {"auto": FLOAT16, "bfloat16": FLOAT32, "float16": FLOAT16}),
    ],
)
def test_a_precision_is_what_the_recipe_asks_for_where_the_device_is_built_for_it(
    device: torch.device,
    built_for_bfloat16: bool,
    expected: dict[str, torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _built_for_bfloat16(monkeypatch, built_for_bfloat16)
    for precision, dtype in (expected | {"float32": FLOAT32}).items():
        assert placement.dtype_of(precision, device) == dtype


def test_a_split_that_a_device_has_no_room_for_travels_batch_by_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = tiny_data().train
    to = torch.Tensor.to

    def with_little_room(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if tensor.dim() == 4 and len(tensor) == len(split):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return to(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", with_little_room)
    images, _ = PlacedSplit(split, CPU).take(torch.tensor([3, 1]))
    assert torch.equal(images, torch.from_numpy(split.inputs)[[3, 1]])


def test_training_and_validation_compute_in_the_recipes_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _built_for_bfloat16(monkeypatch, True)
    data = tiny_data()

    def losses(precision: str) -> tuple[float, float]:
        recipe = Recipe.model_validate(
            {
                "epochs": 1,
                "learning_rate": 1e-30,
                "batch_norm": "frozen",
                "precision": precision,
            }
        )
        (epoch,) = fit(TrainingRequest(tiny_backbone(data), data, recipe, seed=0, device=CPU))
        return epoch.train_loss, epoch.metrics["loss"]

    single, half = losses("float32"), losses("bfloat16")
    assert losses("auto") == half
    assert single[0] != half[0]
    assert single[1] != half[1]
