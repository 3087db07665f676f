"""Convolutions over few pixels: the same layer, computed as one product."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from worker.training.model import small_maps

MANY = {"in_channels": 512, "out_channels": 512, "kernel_size": 3, "padding": 1}
GEOMETRIES: list[dict[str, Any]] = [
    MANY,
    MANY | {"stride": 2, "bias": False},
    MANY | {"kernel_size": (3, 5), "padding": (1, 2), "stride": (2, 1)},
    MANY | {"padding": 0},
    {"in_channels": 1024, "out_channels": 1024, "kernel_size": 1, "stride": 2},
]


def in_bfloat16(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(x)


def results(layer: nn.Module, side: int) -> dict[str, Tensor]:
    """Output and gradients of a layer in bfloat16."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, layer.get_parameter("weight").shape[1], side, side, generator=generator)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    y = in_bfloat16(layer, x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    found = {"output": y.detach(), "input": x.grad}
    found |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {name: value for name, value in found.items() if value is not None}


def the_same(geometry: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """One layer twice: torch's, and ours."""
    layers: list[nn.Module] = []
    for _ in range(2):
        torch.manual_seed(0)
        layers.append(
            nn.Sequential(nn.Conv2d(**geometry)).to(memory_format=torch.channels_last)
        )
    small_maps.adopt(layers[1])
    return layers[0].get_submodule("0"), layers[1].get_submodule("0")


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_output_and_gradients_are_the_convolutions(geometry: dict[str, Any]) -> None:
    theirs, ours = the_same(geometry)
    side = 7 if geometry.get("stride") == (2, 1) else 4
    expected, found = results(theirs, side), results(ours, side)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        error = (found[name] - value).abs().max() / value.abs().max()
        assert error < 0.02, name


def test_a_frozen_layer_gets_no_gradient() -> None:
    _, ours = the_same(MANY)
    ours.requires_grad_(False)
    x = torch.randn(2, 512, 2, 2, requires_grad=True)
    in_bfloat16(ours, x).sum().backward()
    assert ours.get_parameter("weight").grad is None
    assert x.grad is not None


def test_in_full_precision_and_over_large_maps_it_is_torchs_own_bit_by_bit() -> None:
    theirs, ours = the_same(MANY)
    small, large = torch.randn(2, 512, 2, 2), torch.randn(2, 512, 8, 8)
    assert torch.equal(theirs(small), ours(small))
    assert torch.equal(in_bfloat16(theirs, large), in_bfloat16(ours, large))


@pytest.mark.parametrize(
    "change",
    [
        {"out_channels": 64},
        {"groups": 2, "out_channels": 1024},
        {"dilation": 2},
        {"padding_mode": "reflect"},
        {"padding": "same"},
    ],
)
def test_layers_with_few_weights_or_other_geometries_are_left_alone(
    change: dict[str, Any],
) -> None:
    _, ours = the_same(MANY | change)
    assert type(ours) is nn.Conv2d


def test_a_picture_alone_without_a_batch_is_still_convolved() -> None:
    _, ours = the_same(MANY)
    assert in_bfloat16(ours, torch.randn(512, 2, 2)).shape == (512, 2, 2)
