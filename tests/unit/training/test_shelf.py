"""A kept backbone is, bit by bit, the one that would have been built."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, same_tensors
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training import safetensors_files
from worker.training.errors import WeightsMissing
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.backbones import Backbone

DATA = tiny_data()
KNOWN = Model(backbone="glyphnet", weights="default")
SHORT = Recipe(epochs=1, batch_size=8)
RANDOM = Model(backbone="glyphnet", weights="none")


def train(backbone: Backbone, recipe: Recipe = SHORT) -> None:
    list(fit(TrainingRequest(backbone, DATA, recipe, seed=0, device=CPU)))


def as_built(backbone: Backbone, model: Model = KNOWN, *, seed: int) -> bool:
    """Whether it is what `backbones.build` gives."""
    fresh = backbones.build(model, classes=backbone.classes, seed=seed)
    flags = [
        (name, parameter.requires_grad) for name, parameter in fresh.network.named_parameters()
    ]
    return (
        same_tensors(fresh.network.state_dict(), backbone.network.state_dict())
        and flags
        == [
            (name, parameter.requires_grad)
            for name, parameter in backbone.network.named_parameters()
        ]
        and all(parameter.grad is None for parameter in backbone.parameters())
        and all(module.training for module in backbone.network.modules())
    )


def weights_file(path: Path, seed: int) -> Model:
    backbone = backbones.build(RANDOM, classes="abc", seed=seed)
    safetensors_files.write(path, backbone.network.state_dict(), {})
    return Model(backbone="glyphnet", weights=str(path))


@pytest.mark.parametrize(
    "recipe",
    [
        SHORT,
        Recipe(epochs=1, batch_size=8, frozen_stages=2),
        Recipe(epochs=1, batch_size=8, frozen_stages=1000),
        Recipe(epochs=3, batch_size=8, frozen_stages=3, unfreeze_every=1),
        Recipe(epochs=1, batch_size=8, frozen_stages=1, lora_rank=2),
    ],
    ids=["all", "two stages stay", "the head alone", "stages thaw", "low rank"],
)
def test_after_a_training_the_next_trial_gets_what_would_be_built(recipe: Recipe) -> None:
    backbone_cache = BackboneCache()
    first = backbone_cache.take(KNOWN, classes="abc", seed=1, recipe=recipe)
    assert as_built(first, seed=1)
    train(first, recipe)
    second = backbone_cache.take(KNOWN, classes="abc", seed=2)
    assert second is first
    assert as_built(second, seed=2)


def test_of_a_backbone_that_was_just_loaded_only_the_head_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Tensor] = []
    copy = Tensor.copy_

    def note(self: Tensor, *arguments: Any, **options: Any) -> Tensor:
        written.append(self)
        return copy(self, *arguments, **options)

    monkeypatch.setattr(Tensor, "copy_", note)
    backbone = BackboneCache().take(KNOWN, classes="abc", seed=1)
    again = {
        name
        for name, parameter in backbone.network.named_parameters()
        if sum(tensor.data_ptr() == parameter.data_ptr() for tensor in written) > 1
    }
    assert again == {f"{backbone.head_name}.{name}" for name in ("weight", "bias")}


def test_other_classes_or_another_model_are_built_anew() -> None:
    backbone_cache = BackboneCache()
    first = backbone_cache.take(KNOWN, classes="abc", seed=1)
    assert len(backbone_cache.take(KNOWN, classes="ab", seed=1).classes) == 2
    assert backbone_cache.take(KNOWN, classes="abc", seed=1) is not first


def test_random_weights_come_from_the_seed_each_time() -> None:
    backbone_cache = BackboneCache()
    for seed in (1, 2):
        backbone = backbone_cache.take(RANDOM, classes="abc", seed=seed)
        assert as_built(backbone, RANDOM, seed=seed)
        train(backbone)


def test_a_weights_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path, backbone_cache = tmp_path / "weights.safetensors", BackboneCache()
    model = weights_file(path, seed=5)
    backbone_cache.take(model, classes="abc", seed=1)
    weights_file(path, seed=6)
    os.utime(path, ns=(1, 1))
    assert as_built(backbone_cache.take(model, classes="abc", seed=1), model, seed=1)
    path.unlink()
    with pytest.raises(WeightsMissing):
        backbone_cache.take(model, classes="abc", seed=1)


def test_nothing_that_an_error_may_have_damaged_is_kept() -> None:
    backbone_cache = BackboneCache()
    damaged = backbone_cache.take(KNOWN, classes="abc", seed=1)
    with torch.no_grad():
        damaged.head.get_parameter("bias").fill_(float("nan"))
    backbone_cache.clear()
    assert backbone_cache.take(KNOWN, classes="abc", seed=1) is not damaged


PROBE = Recipe(epochs=1, batch_size=8, frozen_stages=1000)


def taken(backbone_cache: BackboneCache, place: int, *, seed: int) -> Backbone:
    return backbone_cache.take(KNOWN, classes="abc", seed=seed, recipe=PROBE, place=place)


def test_places_share_all_but_the_head() -> None:
    backbone_cache = BackboneCache()
    first, second = (taken(backbone_cache, place, seed=place) for place in (0, 1))
    assert as_built(first, seed=0)
    assert as_built(second, seed=1)
    one, other = (dict(backbone.network.named_parameters()) for backbone in (first, second))
    assert {name for name in one if one[name] is not other[name]} == {"fc.weight", "fc.bias"}


def test_what_one_place_learns_no_other_knows() -> None:
    backbone_cache = BackboneCache()
    first, second = (taken(backbone_cache, place, seed=place) for place in (0, 1))
    train(second, PROBE)
    assert same_tensors(
        first.head.state_dict(),
        backbones.build(KNOWN, classes="abc", seed=0).head.state_dict(),
    )
    again = taken(backbone_cache, 1, seed=3)
    assert again is second
    assert same_tensors(
        again.head.state_dict(), backbones.build(KNOWN, classes="abc", seed=3).head.state_dict()
    )


def test_only_weights_that_are_loaded_have_places() -> None:
    assert BackboneCache.has_places(KNOWN)
    assert not BackboneCache.has_places(RANDOM)
