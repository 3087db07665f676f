"""Where a network may be cut, and that both halves together are the network."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training.device.placement import autocast
from worker.training.features import frozen_prefix
from worker.training.model import backbones
from worker.training.model.backbones import Architecture, Backbone
from worker.training.model.freezing import Freezing
from worker.training.model.halves import Halves
from worker.training.model.image_input import ImageInput

CPU = torch.device("cpu")
PICTURES = torch.randint(0, 256, (4, 32, 32, 3), generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """Two frozen layers and a head; `between` is what its code does after the first."""

    def __init__(self, between: "Between") -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.never = nn.Dropout(0.0)
        self.bn = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, H, W)` to `(N, 3)`."""
        x = self.between(self, torch.relu(self.first(x)))
        return cast(Tensor, self.fc(torch.relu(self.second(x)).mean(dim=(2, 3))))


Between = Callable[[Chain, Tensor], Tensor]


def modes(backbone: Backbone) -> list[bool]:
    return [module.training for module in backbone.modules()]


def chain(
    between: Between = lambda _, x: x,
    stages: tuple[tuple[str, ...], ...] = (("first",), ("second",)),
) -> Backbone:
    architecture = Architecture(
        Chain(between), "fc", stages, ImageInput((0.5,) * 3, (0.25,) * 3)
    )
    return Backbone("chain", "abc", architecture)


def built(name: str) -> Backbone:
    return backbones.build(Model(backbone=name, weights="none"), classes="abc", seed=0)


def cut(backbone: Backbone, frozen_stages: int) -> Halves | None:
    freezing = Freezing(backbone, Recipe(frozen_stages=frozen_stages))
    freezing.freeze()
    freezing.training_mode()
    return frozen_prefix.cut(backbone, frozen_stages)


def calls(module: Any) -> set[str]:
    return {str(node.target) for node in module.graph.nodes if node.op == "call_module"}


def of(halves: Halves | None) -> tuple[set[str], set[str]]:
    """Names of the modules that each half calls."""
    assert halves is not None
    return calls(halves.prefix), calls(halves._rest)  # pyright: ignore[reportPrivateUsage]


def gradients(backbone: Backbone, forward: Callable[[], Tensor]) -> dict[str, Tensor]:
    backbone.zero_grad()
    with autocast(CPU):
        loss = functional.cross_entropy(forward(), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in backbone.network.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize(
    ("name", "stages"),
    [("glyphnet", (1, 3, 4)), ("resnet18", (1, 4, 5)), ("squeezenet1_1", (5,))],
)
def test_both_halves_are_the_network_bit_by_bit_in_training_too(
    name: str, stages: tuple[int, ...]
) -> None:
    for frozen_stages in stages:
        backbone = built(name)
        halves = cut(backbone, frozen_stages)
        assert halves is not None
        normalised = backbone.input(PICTURES.to(torch.uint8))
        torch.manual_seed(1)
        whole = gradients(backbone, lambda b=backbone, x=normalised: b.network(x))
        statistics = {
            key: value.clone() for key, value in backbone.network.state_dict().items()
        }

        again = built(name)
        halves = cut(again, frozen_stages)
        assert halves is not None
        with torch.no_grad(), autocast(CPU):
            kept = halves.kept(again.input(PICTURES.to(torch.uint8)))
        torch.manual_seed(1)
        parts = gradients(again, lambda h=halves, k=kept: h.rest(k))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(value, parts[key]) for key, value in whole.items())
        # Batch normalisation of what is trained follows the batches; of what is frozen it does not.
        for key, value in again.network.state_dict().items():
            assert torch.equal(statistics[key], value), key


def test_without_frozen_stages_there_is_nothing_to_cut() -> None:
    assert cut(chain(), 0) is None


def test_the_prefix_reaches_up_to_the_first_layer_that_is_trained() -> None:
    assert of(cut(chain(), 1)) == ({"first"}, {"second", "fc"})
    assert of(cut(chain(), 2)) == ({"first", "second"}, {"fc"})


def test_what_draws_random_numbers_stays_in_the_rest() -> None:
    halves = cut(chain(lambda net, x: net.drop(x)), 2)
    assert of(halves) == ({"first"}, {"drop", "second", "fc"})


def test_a_dropout_that_drops_nothing_may_be_in_the_prefix() -> None:
    halves = cut(chain(lambda net, x: net.never(x)), 2)
    assert of(halves) == ({"first", "never", "second"}, {"fc"})


def test_a_layer_that_is_trained_in_the_midst_of_frozen_ones_ends_the_prefix() -> None:
    halves = cut(chain(lambda net, x: net.bn(x)), 2)
    assert of(halves) == ({"first"}, {"bn", "second", "fc"})


WITHOUT_A_SEAM: dict[str, Between] = {
    "goes by values": lambda _, x: x if x.sum() > 0 else -x,
    "goes by mode": lambda net, x: x.clamp(max=9) if net.training else x,
    "random in every mode": lambda _, x: functional.dropout(x, 0.5),
    "two tensors would cross": lambda net, x: net.drop(x) + x.mean(dim=1, keepdim=True),
}


@pytest.mark.parametrize("between", WITHOUT_A_SEAM.values(), ids=WITHOUT_A_SEAM.keys())
def test_code_without_a_seam_is_not_cut(between: Between) -> None:
    assert cut(chain(between), 1) is None


def test_what_is_not_a_row_for_each_picture_cannot_be_kept() -> None:
    assert cut(chain(lambda _, x: x.mean(dim=0, keepdim=True)), 2) is None


def test_a_cut_leaves_every_module_in_its_mode_and_is_made_once() -> None:
    backbone = built("resnet18")
    first = cut(backbone, 3)
    after = modes(backbone)
    Freezing(backbone, Recipe(frozen_stages=3)).training_mode()
    assert modes(backbone) == after
    assert frozen_prefix.cut(backbone, 3) is first
