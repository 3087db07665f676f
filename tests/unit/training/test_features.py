"""What frozen stages make of the data: the same bits however they are come by, and never another network's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.device import placement
from worker.training.features import features
from worker.training.features.feature_cache import FeatureCache
from worker.training.features.features import Inputs
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.model.image_input import ImageInput

DATA = replace(tiny_data(train=300), key="a data set")
"""More than one batch of `evaluate`'s size."""
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=1e-2, frozen_stages=1)


def curve(cache: FeatureCache | None, recipe: Recipe = RECIPE) -> list[tuple[float, ...]]:
    epochs = fit(
        TrainingRequest(
            tiny_backbone(DATA), DATA, recipe, seed=0, device=CPU, features_cache=cache
        )
    )
    return [(e.train_loss, e.value, e.metrics["loss"]) for e in epochs]


def inputs(recipe: Recipe = RECIPE, cache: FeatureCache | None = None) -> Inputs:
    freezing = Freezing(tiny_backbone(DATA), recipe)
    freezing.freeze()
    return features.inputs_of(freezing, DATA, CPU, cache=cache, each_batch=lambda: None)


def key(model: Backbone, frozen_stages: int = 1, part: str = "train") -> str:
    return features.key(Freezing(model, Recipe(frozen_stages=frozen_stages)), DATA, CPU, part)


@pytest.mark.parametrize("frozen_stages", [1, 2])
def test_computed_kept_and_found_features_give_the_same_curve_bit_by_bit(
    tmp_path: Path, frozen_stages: int
) -> None:
    recipe = RECIPE.model_copy(update={"frozen_stages": frozen_stages})
    alone = curve(None, recipe)
    assert curve(FeatureCache(tmp_path), recipe) == alone
    assert curve(FeatureCache(tmp_path), recipe) == alone


def test_features_train_as_the_whole_network_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with_features = curve(None)

    def never(*_: object) -> None:
        return None

    monkeypatch.setattr(features.frozen_prefix, "cut", never)
    np.testing.assert_allclose(with_features, curve(None), rtol=0.05)


def test_what_is_frozen_is_computed_once_for_all_trials(tmp_path: Path) -> None:
    passes: list[int] = []
    for _ in range(2):
        model = tiny_backbone(DATA)
        model.network.get_submodule("conv").register_forward_hook(
            lambda _, inputs, __: passes.append(len(inputs[0]))
        )
        list(
            fit(
                TrainingRequest(
                    model,
                    DATA,
                    RECIPE,
                    seed=0,
                    device=CPU,
                    features_cache=FeatureCache(tmp_path),
                )
            )
        )
    whole = [
        size for size in passes if size > 2
    ]  # Smaller ones look for the seam and the size.
    assert sum(whole) == len(DATA.train) + len(DATA.validation)


def test_without_frozen_stages_training_runs_over_the_pictures() -> None:
    taken, _ = inputs(Recipe()).train.take(torch.arange(2))
    assert torch.equal(taken, torch.from_numpy(DATA.train.inputs[:2]))


def test_features_that_would_be_too_large_are_computed_at_every_step(tmp_path: Path) -> None:
    taken, _ = inputs(cache=FeatureCache(tmp_path, limit_bytes=1000)).train.take(
        torch.arange(2)
    )
    assert taken.dtype == torch.uint8
    assert list(tmp_path.iterdir()) == []


def test_features_of_data_that_nobody_knows_by_a_key_are_kept_by_nobody(tmp_path: Path) -> None:
    list(
        fit(
            TrainingRequest(
                tiny_backbone(DATA),
                replace(DATA, key=""),
                RECIPE,
                seed=0,
                device=CPU,
                features_cache=FeatureCache(tmp_path),
            )
        )
    )
    assert list(tmp_path.iterdir()) == []


def _other_weights(model: Backbone) -> None:
    with torch.no_grad():
        model.network.get_parameter("conv.weight")[0, 0, 0, 0] += 1


def _other_statistics(model: Backbone) -> None:
    model.network.get_buffer("bn.running_mean").add_(1)


def _other_mean(model: Backbone) -> None:
    model.input.get_buffer("mean").add_(0.1)


def _other_std(model: Backbone) -> None:
    model.input.get_buffer("std").add_(0.1)


def _other_name(model: Backbone) -> None:
    model.name = "other"


def _larger(model: Backbone) -> None:
    model.input = ImageInput((0.4,), (0.3,), least_side=9)


def _scaled(model: Backbone) -> None:
    model.input = ImageInput((0.4,), (0.3,), only_side=9)


@pytest.mark.parametrize(
    "change",
    [_other_weights, _other_statistics, _other_mean, _other_std, _other_name, _larger, _scaled],
)
def test_a_key_changes_with_all_of_the_network_that_features_depend_on(
    change: Callable[[Backbone], object],
) -> None:
    model = tiny_backbone(DATA)
    before = key(model)
    change(model)
    assert key(model) != before


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield
    torch.set_num_threads(before)


def test_a_key_changes_with_split_data_and_stages_and_not_with_what_is_trained() -> None:
    model = tiny_backbone(DATA)
    before = key(model)
    assert key(model, part="validation") != before
    assert key(model, frozen_stages=2) != before
    assert features.key(Freezing(model, RECIPE), replace(DATA, key="b"), CPU, "train") != before
    with torch.no_grad():
        model.head.get_parameter("bias").add_(1)
        model.network.get_parameter("conv2.weight").add_(1)
    assert key(model) == before
    assert key(model, frozen_stages=1000) == key(model, frozen_stages=2)


@pytest.mark.usefixtures("two_threads")
def test_a_key_changes_with_the_number_of_threads() -> None:
    model = tiny_backbone(DATA)
    with_more = key(model)
    torch.set_num_threads(torch.get_num_threads() - 1)
    assert key(model) != with_more


def test_a_key_changes_with_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_backbone(DATA)
    before = key(model)
    able = placement.computes_in_bfloat16(CPU)

    def other(_: torch.device) -> bool:
        return not able

    monkeypatch.setattr(placement, "computes_in_bfloat16", other)
    assert key(model) != before


def test_a_digest_is_of_the_weights_however_they_lie_in_memory() -> None:
    model = tiny_backbone(DATA)
    before = features.digest(model, 2)
    model.network.get_parameter("conv2.weight").data = model.network.get_parameter(
        "conv2.weight"
    ).contiguous(memory_format=torch.channels_last)
    assert features.digest(model, 2) == before


def test_a_digest_is_remembered_only_where_somebody_vouches_for_the_weights() -> None:
    model = tiny_backbone(DATA)
    before = features.digest(model, 1)
    _other_weights(model)
    assert features.digest(model, 1) != before
    model.digests = {}
    vouched = features.digest(model, 1)
    _other_weights(model)
    assert features.digest(model, 1) == vouched
