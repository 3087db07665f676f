"""Portions of a batch: what fits into memory is found by running out of it."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, memory_for, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit
from worker.training.features import features
from worker.training.final import probe
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.optim import weight_averages

DATA = tiny_data()
CALM = Recipe(epochs=2, batch_size=22, learning_rate=1e-3, frozen_stages=2)
"""No batch normalisation moves its statistics."""
PLAIN = Recipe()


@example(count=3, largest=1, least=2)
@given(
    count=st.integers(1, 300), largest=st.none() | st.integers(1, 300), least=st.integers(1, 2)
)
def test_the_portions_are_the_batch_each_picture_once(
    count: int, largest: int | None, least: int
) -> None:
    micro_batches = MicroBatches(largest, least=least).cut(count)
    rows = [row for micro_batch in micro_batches for row in range(count)[micro_batch]]
    assert rows == list(range(count))
    sizes = [micro_batch.stop - micro_batch.start for micro_batch in micro_batches]
    assert min(sizes) >= min(least, count)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(largest or count, 2 * least - 1)


def test_what_runs_out_of_memory_is_tried_again_in_halves_until_it_fits() -> None:
    tried: list[list[int]] = []

    def work(micro_batches: Sequence[slice]) -> str:
        tried.append([micro_batch.stop - micro_batch.start for micro_batch in micro_batches])
        if max(tried[-1]) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    micro_batches = MicroBatches()
    assert micro_batches.run(20, work) == "done"
    assert tried == [[20], [10, 10], [5, 5, 5, 5]]
    assert micro_batches.largest == 5
    assert micro_batches.run(20, work) == "done"
    assert tried[3:] == [[5, 5, 5, 5]]


@pytest.mark.parametrize(("least", "tries"), [(1, 5), (2, 4)])
def test_what_fits_in_no_portion_is_out_of_memory(least: int, tries: int) -> None:
    count = 0

    def work(_: Sequence[slice]) -> None:
        nonlocal count
        count += 1
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        MicroBatches(least=least).run(16, work)
    assert count == tries


def test_another_error_is_not_tried_again() -> None:
    def work(_: Sequence[slice]) -> None:
        raise RuntimeError("shapes do not match")

    micro_batches = MicroBatches()
    with pytest.raises(RuntimeError, match="shapes"):
        micro_batches.run(16, work)
    assert micro_batches.largest is None


def _run(recipe: Recipe, known: int | None = None) -> list[EpochResult]:
    return list(
        fit(
            TrainingRequest(
                tiny_backbone(DATA), DATA, recipe, seed=0, device=CPU, micro_batch_size=known
            )
        )
    )


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    """Where no batch normalisation and no dropout makes a picture depend on its batch."""
    moved: list[torch.Tensor] = []
    for size in (None, 5):
        model = tiny_backbone(DATA)
        cast(nn.Dropout, model.network.get_submodule("drop")).p = 0.0
        recipe = CALM.model_copy(
            update={"epochs": 1, "micro_batch_size": size, "optimizer": "sgd"}
        )
        (result,) = fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU))
        assert result.micro_batch_size == size
        moved.append(cast(nn.Linear, model.head).weight.detach())
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-5)


def test_what_is_known_of_the_memory_is_where_training_begins() -> None:
    assert [one.micro_batch_size for one in _run(CALM, known=7)] == [7, 7]
    smaller = CALM.model_copy(update={"micro_batch_size": 3})
    assert _run(smaller, known=7)[0].micro_batch_size == 3


def test_a_training_that_runs_out_of_memory_goes_on_with_smaller_portions() -> None:
    recipe = Recipe(epochs=1, batch_size=22, learning_rate=1e-3)
    with memory_for(6):
        (result,) = fit(TrainingRequest(tiny_backbone(DATA), DATA, recipe, seed=0, device=CPU))
    assert result.micro_batch_size == 6
    assert result.metrics["loss"] > 0


def _features(model: Backbone) -> Tensor:
    inputs = features.inputs_of(
        Freezing(model, CALM), DATA, CPU, cache=None, each_batch=lambda: None
    )
    return inputs.train.take(torch.arange(len(inputs.train)))[0]


def _probed(model: Backbone) -> Tensor:
    return probe.features_of(model, PlacedSplit(DATA.train, CPU)).values


@pytest.mark.parametrize("compute", [_features, _probed])
def test_whatever_looks_at_all_pictures_looks_at_fewer_at_once_when_memory_is_short(
    compute: Callable[[Backbone], Tensor],
) -> None:
    whole = compute(tiny_backbone(DATA))
    with memory_for(6):
        torch.testing.assert_close(compute(tiny_backbone(DATA)), whole, rtol=1e-2, atol=1e-2)
    with memory_for(0), pytest.raises(torch.OutOfMemoryError):
        compute(tiny_backbone(DATA))


def test_statistics_are_those_of_whole_passes_when_memory_is_short() -> None:
    model, micro_batches = tiny_backbone(DATA), MicroBatches(least=2)
    with memory_for(6):
        weight_averages.estimate_statistics(
            Freezing(model, PLAIN),
            PlacedSplit(DATA.train, CPU),
            model,
            micro_batches=micro_batches,
        )
    assert micro_batches.largest == 6
    first = cast(nn.BatchNorm2d, model.network.get_submodule("bn"))
    assert first.num_batches_tracked == 4
    pictures = model.input(torch.from_numpy(DATA.train.inputs))
    mean = model.network.get_submodule("conv")(pictures).mean(dim=(0, 2, 3))
    torch.testing.assert_close(first.running_mean, mean, rtol=2e-2, atol=1e-3)
