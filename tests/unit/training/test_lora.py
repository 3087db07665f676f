"""Low-rank adaptation, beside the same computed the plain way."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.training import load_weights
from worker.training.model import lora
from worker.training.model.freezing import Freezing
from worker.training.model.lora import LowRank
from worker.training.seeding import seeded

DATA = tiny_data()
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=1e-2, lora_rank=2, lora_alpha=6.0)

_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 6),
    "convolution": lambda: nn.Conv2d(4, 6, 3),
    "pointwise": lambda: nn.Conv2d(4, 6, 1),
    "in groups": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", _LAYERS)
def test_factors_get_the_gradients_of_a_weight_made_of_their_product(
    kind: str, channels_last: bool
) -> None:
    with seeded(0):
        layer, pictures = _LAYERS[kind](), torch.randn(5, 4, 7, 7)
    if channels_last:
        layer.to(memory_format=torch.channels_last)
    inputs = pictures[:, :, 0, 0] if kind == "linear" else pictures
    weight = cast(nn.Parameter, layer.weight)
    pretrained = weight.detach().clone()
    low_rank = LowRank({"weight": weight}, RECIPE, seed=0)
    a, b = low_rank.factors["weight.lora_A"], low_rank.factors["weight.lora_B"]
    with torch.no_grad():
        b.copy_(torch.arange(b.numel()).view_as(b) / 10)
    low_rank.merge()

    plain_a, plain_b = (p.detach().contiguous().requires_grad_() for p in (a, b))
    product = (plain_b @ plain_a.flatten(1)).view_as(pretrained)
    total = pretrained + 6.0 / 2 * product
    assert torch.allclose(weight, total, atol=1e-6)

    layer(inputs).square().sum().backward()
    low_rank.take_gradients()
    parameters = {"weight": total, "bias": layer.bias}
    outputs = torch.func.functional_call(layer, cast(dict[str, Tensor], parameters), inputs)
    cast(Tensor, outputs).square().sum().backward()
    for ours, theirs in ((a, plain_a), (b, plain_b)):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_lora_begins_with_the_pretrained_network() -> None:
    model, frozen = tiny_backbone(DATA), tiny_backbone(DATA)
    idle = RECIPE.model_copy(update={"learning_rate": 1e-30, "batch_norm": "frozen"})
    list(fit(TrainingRequest(model, DATA, idle, seed=0, device=CPU)))
    assert same_tensors(model.network.state_dict(), frozen.network.state_dict())


def test_lora_moves_weights_by_the_rank_and_leaves_what_else_the_stages_hold() -> None:
    model, before = tiny_backbone(DATA), tiny_backbone(DATA).network.state_dict()
    recipe = RECIPE.model_copy(update={"frozen_stages": 1})
    list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)))
    after = model.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {"bn2.running_mean", "bn2.running_var", "bn2.num_batches_tracked"}
    assert moved == {"conv2.weight", "fc.weight", "fc.bias"} | statistics
    step = (after["conv2.weight"] - before["conv2.weight"]).flatten(1)
    assert torch.linalg.matrix_rank(step, rtol=1e-4) == 2


def test_a_state_holds_factors_that_merge_into_the_model_that_was_trained() -> None:
    model = tiny_backbone(DATA)
    *_, last = fit(TrainingRequest(model, DATA, RECIPE, seed=0, device=CPU))
    state = last.state()
    assert "conv2.weight.lora_A" in state.weights
    assert not {"conv2.weight", "conv2.bias", "bn2.weight"} & state.weights.keys()
    again = tiny_backbone(DATA)
    load_weights(Freezing(again, RECIPE), state)
    images = torch.from_numpy(DATA.validation.inputs)
    assert again.network.state_dict().keys() == tiny_backbone(DATA).network.state_dict().keys()
    assert torch.allclose(again.eval()(images), model.eval()(images), atol=1e-5)


def test_where_averages_are_measured_a_state_gives_back_the_average() -> None:
    recipe = RECIPE.model_copy(update={"ema_decay": 0.9})
    model, again = tiny_backbone(DATA), tiny_backbone(DATA)
    *_, last = fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU))
    load_weights(Freezing(again, recipe), last.state(whole=False))
    assert same_tensors(again.network.state_dict(), model.network.state_dict())


def test_lora_reaches_linear_convolution_and_attention_layers() -> None:
    network = nn.ModuleDict(
        {
            "fc": nn.Linear(2, 2),
            "conv": nn.Conv2d(2, 2, 1),
            "norm": nn.BatchNorm2d(2),
            "attention": nn.MultiheadAttention(2, 1),
        }
    )
    assert set(lora.targets(network)) == {
        "fc.weight",
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }
