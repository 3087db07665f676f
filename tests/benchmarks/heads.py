"""Heads of several linear-probe trials in one computation, against one after the other.

`./run bench heads [--json] [--rounds N] [--device cuda]`

Each lane is a trial: a linear layer with its own weights, order of pictures, optimizer and learning rate, on the same
features. A figure is microseconds a lane and step, the median over rounds that take turns, with the tenth and the
ninetieth percentile. `graph` is torch's own way, `plain` is `worker.training.plain_head`; `products` shares all but the
matrix products between 8 lanes, `batched` shares these too. At last, how many lanes of batched products have other
bits than the same lane alone, over random shapes. On a GPU each epoch's time ends when the device has done its work.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.training import groups
from worker.training.optim import Optimizer
from worker.training.placement import row_batches, sent
from worker.training.plain_head import PlainHead

RECIPE = Recipe(optimizer="adam", schedule="constant", weight_decay=0.0)
BATCH_SIZE = 32
LANES = (2, 8, 16)
SHAPES = ((192, 512, 6), (1078, 64, 10), (192, 2048, 100))
"""Pictures, features, classes: the probes of `./run bench worker`, the digits, a resnet50 with many classes."""


@dataclass(frozen=True)
class Lane:
    """One trial's head."""

    layer: nn.Linear
    optimizer: Optimizer

    def move(self, weight: Tensor, bias: Tensor) -> None:
        """Take a step along these gradients."""
        self.layer.weight.grad, self.layer.bias.grad = weight, bias
        self.optimizer.step(RECIPE.learning_rate)


@dataclass(frozen=True)
class Features:
    """What all lanes learn from."""

    inputs: Tensor
    labels: Tensor
    classes: int

    def batches(self) -> Sequence[Tensor]:
        """A new order of the rows, cut; on the CPU, as the worker draws it."""
        return row_batches(torch.randperm(len(self.labels)), BATCH_SIZE)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of these rows."""
        rows = sent(rows, self.inputs.device)
        return self.inputs.index_select(0, rows), self.labels.index_select(0, rows)


def lane_of(weight: Tensor, bias: Tensor) -> Lane:
    """A lane whose weights lie in these."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    layer.weight.data, layer.bias.data = weight, bias
    return Lane(layer, Optimizer(groups.of_head(layer, RECIPE), RECIPE))


def by_graph(lane: Lane, features: Features) -> None:
    """An epoch as torch's graph has it."""
    for rows in features.batches():
        inputs, labels = features.take(rows)
        lane.optimizer.zero_grad()
        functional.cross_entropy(lane.layer(inputs), labels).backward()
        lane.optimizer.step(RECIPE.learning_rate)


def written_out(lane: Lane, features: Features) -> None:
    """An epoch of `PlainHead`."""
    head = PlainHead(lane.layer)
    for rows in features.batches():
        head.gradients(*features.take(rows))
        lane.optimizer.step(RECIPE.learning_rate)


@torch.no_grad()
def by_products(lanes: Sequence[Lane], features: Features) -> None:
    """An epoch of all lanes: matrix products by lane, everything else at once."""
    for together in zip(*(features.batches() for _ in lanes), strict=True):
        inputs, labels = zip(*(features.take(rows) for rows in together), strict=True)
        logits = [lane.layer(own) for lane, own in zip(lanes, inputs, strict=True)]
        slopes = slopes_of(torch.cat(logits), torch.cat(labels), len(inputs[0]))
        each = slopes.view(len(lanes), len(inputs[0]), -1)
        for lane, own, slope in zip(lanes, inputs, each, strict=True):
            lane.move(slope.t().mm(own), slope.sum(0))


@torch.no_grad()
def batched(lanes: Sequence[Lane], weights: Tensor, biases: Tensor, features: Features) -> None:
    """An epoch of all lanes: one product for all, `weights` being `(lanes, classes, features)`."""
    count = len(lanes)
    for together in zip(*(features.batches() for _ in lanes), strict=True):
        inputs, labels = features.take(torch.cat(together))
        inputs = inputs.view(count, -1, inputs.shape[1])
        logits = torch.baddbmm(biases.unsqueeze(1), inputs, weights.transpose(1, 2))
        slopes = slopes_of(logits.flatten(0, 1), labels, inputs.shape[1]).view_as(logits)
        moves = (slopes.transpose(1, 2).bmm(inputs), slopes.sum(1))
        for lane, weight, bias in zip(lanes, *moves, strict=True):
            lane.move(weight, bias)


def slopes_of(logits: Tensor, labels: Tensor, batch: int) -> Tensor:
    """Gradients of each lane's mean cross-entropy over `batch` pictures, by its logits."""
    aten, device = torch.ops.aten, logits.device
    chances = logits.log_softmax(1)
    one, size = torch.ones((), device=device), torch.full((), float(batch), device=device)
    aten.nll_loss_forward(chances, labels, None, 0, -100)  # The losses, which are reported.
    slopes = aten.nll_loss_backward(one, chances, labels, None, 1, -100, size)
    return aten._log_softmax_backward_data(slopes, chances, 1, chances.dtype)


def sides_of(features: Features) -> dict[str, tuple[int, Callable[[], None]]]:
    """Every way to train an epoch, by name, and how many lanes it trains."""

    def stack(count: int) -> tuple[list[Lane], Tensor, Tensor]:
        shape = (count, features.classes, features.inputs.shape[1])
        device = features.inputs.device
        weights, biases = (
            torch.zeros(shape, device=device),
            torch.zeros(shape[:2], device=device),
        )
        return [lane_of(*each) for each in zip(weights, biases, strict=True)], weights, biases

    (one, *_), _, _ = stack(1)
    (other, *_), _, _ = stack(1)
    eight, _, _ = stack(8)
    sides: dict[str, tuple[int, Callable[[], None]]] = {
        "graph": (1, lambda: by_graph(one, features)),
        "plain": (1, lambda: written_out(other, features)),
        "products 8": (8, lambda: by_products(eight, features)),
    }
    for count in LANES:
        made = stack(count)
        sides[f"batched {count}"] = (count, lambda made=made: batched(*made, features))
    return sides


def timed(features: Features, rounds: int) -> dict[str, list[float]]:
    """Microseconds a lane and step, tenth percentile, median and ninetieth, by side."""
    seconds: dict[str, list[float]] = {}
    steps = -(-len(features.labels) // BATCH_SIZE)
    sides = sides_of(features)
    wait = torch.cuda.synchronize if features.inputs.is_cuda else lambda: None
    for _ in range(rounds):
        for name, (lanes, epoch) in sides.items():
            wait()
            began = time.perf_counter()
            epoch()
            wait()
            took = 1e6 * (time.perf_counter() - began) / lanes / steps
            seconds.setdefault(name, []).append(took)
    return {name: spread(values) for name, values in seconds.items()}


def spread(values: Sequence[float]) -> list[float]:
    """Tenth percentile, median and ninetieth."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return [round(one, 1) for one in (tenths[0], statistics.median(values), tenths[-1])]


def lanes_of_other_bits(shapes: int, device: str) -> tuple[int, int]:
    """How many lanes of a batched product differ from the same lane's alone, and of how many."""
    torch.manual_seed(0)
    draw, other, all_lanes = random.Random(0), 0, 0
    for _ in range(shapes):
        lanes, batch = draw.choice((2, 3, 5, 8, 16)), draw.choice((1, 7, 16, 31, 32, 64, 128))
        width, classes = (
            draw.choice((8, 24, 64, 511, 512, 2048)),
            draw.choice((2, 3, 6, 10, 100)),
        )
        inputs = torch.randn(lanes, batch, width).to(device)
        weights = torch.randn(lanes, classes, width).to(device)
        biases = torch.randn(lanes, classes).to(device)
        products = torch.baddbmm(biases.unsqueeze(1), inputs, weights.transpose(1, 2))
        for product, *own in zip(products, inputs, weights, biases, strict=True):
            alone = functional.linear(*(each.clone() for each in own))
            other += not torch.equal(product, alone)
        all_lanes += lanes
    return other, all_lanes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for pictures, width, classes in SHAPES:
        labels = torch.randint(classes, (pictures,)).to(arguments.device)
        features = Features(torch.randn(pictures, width).to(arguments.device), labels, classes)
        name = f"{pictures} pictures, {width} features, {classes} classes"
        figures[name] = timed(features, arguments.rounds)
        print(f"{name}: microseconds a lane and step", flush=True)  # noqa: T201 - the table is the product
        for side, (low, median, high) in figures[name].items():
            print(f"  {side:>10}: {median:7.1f} ({low:.1f} to {high:.1f})", flush=True)  # noqa: T201
    other, lanes = lanes_of_other_bits(300, arguments.device)
    figures["lanes_of_other_bits"] = [other, lanes]
    print(f"{other} of {lanes} lanes of batched products have other bits than alone")  # noqa: T201
    if arguments.json:
        print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
