"""Linear layers computed at once: what torch's graph gives each of them, and on a CPU bit by bit what each gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from worker.training.loop import head_stack
from worker.training.loop.head_stack import HeadStack, keeps_bits

shapes = st.tuples(
    st.integers(1, 5), st.integers(1, 65), st.integers(1, 70), st.integers(2, 20)
)
"""Lanes, pictures, features, classes."""


def drawn(
    shape: tuple[int, int, int, int], *, bias: bool = True
) -> tuple[list[nn.Linear], Tensor, Tensor]:
    heads, pictures, width, classes = shape
    torch.manual_seed(pictures)
    layers = [nn.Linear(width, classes, bias=bias) for _ in range(heads)]
    return (
        layers,
        torch.randn(heads, pictures, width),
        torch.randint(classes, (heads, pictures)),
    )


def gradients_of(layer: nn.Linear) -> list[Tensor]:
    found = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    assert len(found) == len(list(layer.parameters()))
    return found


@settings(max_examples=30)
@given(shape=shapes, bias=st.booleans())
def test_losses_and_gradients_are_those_of_torchs_graph(
    shape: tuple[int, int, int, int], bias: bool
) -> None:
    layers, features, labels = drawn(shape, bias=bias)
    losses = HeadStack(layers).gradients(features, labels)
    for head, layer in enumerate(layers):
        own = gradients_of(layer)
        layer.zero_grad()
        outputs = layer(features[head])
        functional.cross_entropy(outputs, labels[head]).backward()
        each = functional.cross_entropy(outputs, labels[head], reduction="none")
        torch.testing.assert_close(losses[head], each)
        torch.testing.assert_close(own, gradients_of(layer))


@settings(max_examples=30)
@given(shape=shapes)
def test_a_lane_in_company_has_the_bits_that_it_has_alone(
    shape: tuple[int, int, int, int],
) -> None:
    if not keeps_bits(*shape):
        return  # Then nobody computes them together.
    layers, features, labels = drawn(shape)
    losses = HeadStack(layers).gradients(features, labels)
    together = [gradients_of(layer) for layer in layers]
    for head, layer in enumerate(layers):
        own = slice(head, head + 1)
        alone = HeadStack([layer]).gradients(features[own].clone(), labels[own].clone())
        assert torch.equal(alone[0], losses[head])
        assert all(map(torch.equal, gradients_of(layer), together[head]))


def test_logits_are_each_layers_own() -> None:
    layers, features, _ = drawn((3, 7, 5, 4))
    logits = HeadStack(layers).logits(features)
    for head, layer in enumerate(layers):
        torch.testing.assert_close(logits[head], layer(features[head]))


@pytest.mark.parametrize("product", ["_logits", "_of_weights"])
def test_products_that_look_at_the_number_of_lanes_are_found_out(
    monkeypatch: pytest.MonkeyPatch, product: str
) -> None:
    honest = getattr(head_stack, product)

    def otherwise(*given: Tensor) -> Tensor:
        heads = len(given[0])
        return honest(*given) * (1 + 1e-6 * (heads > 1))

    monkeypatch.setattr(head_stack, product, otherwise)
    assert not keeps_bits.__wrapped__(3, 7, 5, 4)


def test_products_of_one_lane_are_its_own() -> None:
    assert keeps_bits(1, 33, 17, 5)
