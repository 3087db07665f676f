"""Training states on disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.pictures import tiny_data
from tests.support.tensors import tensors
from tests.support.tiny import CPU, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training import safetensors_files
from worker.training.errors import CheckpointIncompatible, CheckpointUnreadable
from worker.training.loop.choice import EpochRule
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState


@pytest.fixture(scope="module")
def state() -> FitState:
    data = tiny_data()
    return next(
        fit(
            TrainingRequest(tiny_backbone(data), data, Recipe(epochs=2), seed=2**62, device=CPU)
        )
    ).state()


def test_a_state_comes_back_from_its_file_as_it_was(tmp_path: Path, state: FitState) -> None:
    state.save(tmp_path / "a")
    loaded = FitState.load(tmp_path / "a")
    assert (loaded.seed, loaded.optimizer, loaded.progress) == (2**62, "adamw", state.progress)
    assert loaded.epoch == 0
    assert same_tensors(dict(loaded.weights), dict(state.weights))
    assert same_tensors(dict(loaded.moments), dict(state.moments))


@given(tensors(), tensors(), tensors())
def test_any_tensor_of_a_state_comes_back_as_it_was(
    tmp_path: Path, state: FitState, one: Tensor, two: Tensor, three: Tensor
) -> None:
    some = replace(state, weights={"a": one}, moments={"a": two}, averages={"a": three})
    some.save(tmp_path / "a")
    loaded = FitState.load(tmp_path / "a")
    assert same_tensors(dict(loaded.weights), {"a": one})
    assert same_tensors(dict(loaded.moments), {"a": two})
    assert same_tensors(dict(loaded.averages), {"a": three})


def test_weights_that_lie_channels_last_do_so_in_the_file_and_after_it(
    tmp_path: Path, state: FitState
) -> None:
    weights = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    replace(state, weights={"a": weights}).save(tmp_path / "a")
    lying = safetensors.torch.load_file(tmp_path / "a")["weights/a"]
    assert torch.equal(lying, weights.permute(0, 2, 3, 1))
    loaded = FitState.load(tmp_path / "a").weights["a"]
    assert loaded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded, weights)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path, state: FitState) -> None:
    for name in "ab":
        state.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@given(st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_unreadable(
    tmp_path: Path, state: FitState, share: float
) -> None:
    state.save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointUnreadable) as caught:
        FitState.load(tmp_path / "a")
    assert caught.value.kind == "checkpoint_corrupt"


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match="nowhere"):
        FitState.load(tmp_path / "nowhere")


def test_a_safetensors_file_of_somebody_else_is_unreadable(
    tmp_path: Path, state: FitState
) -> None:
    safetensors_files.write(tmp_path / "a", state.weights, {})
    with pytest.raises(CheckpointUnreadable, match="not one of trimtab's"):
        FitState.load(tmp_path / "a")


def test_a_state_in_another_format_is_incompatible(tmp_path: Path, state: FitState) -> None:
    header = '{"format": 999}'
    safetensors_files.write(tmp_path / "a", state.weights, {"trimtab.checkpoint": header})
    with pytest.raises(CheckpointIncompatible, match="format 999"):
        FitState.load(tmp_path / "a")


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_state_of_a_release_that_kept_the_best_epoch_is_still_read(
    tmp_path: Path, state: FitState, epochs: int
) -> None:
    state.save(tmp_path / "a")
    tensors, metadata = safetensors_files.read(tmp_path / "a")
    header = json.loads(metadata["trimtab.checkpoint"])
    best = {"best_epoch": 0, "best_value": 0.75, "best_loss": 0.5} if epochs else {}
    none = {"best_epoch": -1, "best_value": 0.0, "best_loss": 0.0}
    header["format"] = 4
    header["progress"] = {"epochs": epochs, **none, **best, "bar": 0.75, "stale": 1}
    safetensors_files.write(tmp_path / "a", tensors, {"trimtab.checkpoint": json.dumps(header)})
    progress = FitState.load(tmp_path / "a").progress
    assert (progress.epochs, progress.bar, progress.stale) == (epochs, 0.75, 1)
    assert progress.recent == ()
    if epochs:
        # What that release would have told; means begin with the next epoch.
        assert (progress.kept_epoch, progress.value) == (0, 0.75)
    rule = EpochRule(epochs=9, averaged=3, direction="maximize")
    assert rule.after(progress, 0.5).value == 0.5
    assert rule.after(rule.after(progress, 0.5), 0.25).value == 0.375


@pytest.mark.parametrize(
    "header", ["[]", "{}", '{"format": 4}', '{"format": 1, "seed": 0', '"x"']
)
def test_a_header_that_makes_no_sense_is_unreadable(
    tmp_path: Path, state: FitState, header: str
) -> None:
    safetensors_files.write(tmp_path / "a", state.weights, {"trimtab.checkpoint": header})
    with pytest.raises(CheckpointUnreadable):
        FitState.load(tmp_path / "a")


@pytest.mark.parametrize(
    "orders", [{"weights/fc.bias": [1]}, {"weights/fc.bias": [1, 0]}, {"nobody": [0]}]
)
def test_an_order_of_dimensions_that_fits_no_tensor_is_unreadable(
    tmp_path: Path, state: FitState, orders: dict[str, list[int]]
) -> None:
    state.save(tmp_path / "a")
    tensors, metadata = safetensors_files.read(tmp_path / "a")
    header = json.loads(metadata["trimtab.checkpoint"]) | {"orders": orders}
    safetensors_files.write(tmp_path / "a", tensors, {"trimtab.checkpoint": json.dumps(header)})
    with pytest.raises(CheckpointUnreadable):
        FitState.load(tmp_path / "a")
