"""Heads of several linear-probe trials in one computation, against one after the other.

`./run bench heads [--json] [--rounds N] [--device cuda]`

Each lane is a trial: a linear layer with its own weights, order of pictures, optimizer and learning rate, on the same
features. A figure is microseconds a lane and step, the median over rounds that take turns, with the tenth and the
ninetieth percentile. `graph` is torch's own way, the others are `worker.training.loop.head_stack` with so many lanes. At last,
how many lanes have other bits than the same lane alone, over random shapes. On a GPU each epoch's time ends when the
device has done its work.
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
from worker.training.device.placement import row_batches, sent
from worker.training.loop.head_stack import HeadStack
from worker.training.optim import param_groups
from worker.training.optim.optimizers import Optimizer

RECIPE = Recipe(optimizer="adam", schedule="constant", weight_decay=0.0)
BATCH_SIZE = 32
LANES = (1, 2, 8, 16)
SHAPES = ((192, 512, 6), (1078, 64, 10), (192, 2048, 100))
"""Pictures, features, classes: the probes of `./run bench worker`, the digits, a resnet50 with many classes."""


@dataclass(frozen=True)
class Lane:
    """One trial's head."""

    layer: nn.Linear
    optimizer: Optimizer


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


def a_lane(features: Features) -> Lane:
    """One with weights of zero."""
    layer = nn.Linear(features.inputs.shape[1], features.classes, device=features.inputs.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return Lane(layer, Optimizer(param_groups.of_head(layer, RECIPE), RECIPE))


def by_graph(head: Lane, features: Features) -> None:
    """An epoch as torch's graph has it."""
    for rows in features.batches():
        inputs, labels = features.take(rows)
        head.optimizer.zero_grad()
        functional.cross_entropy(head.layer(inputs), labels).backward()
        head.optimizer.step(RECIPE.learning_rate)


def at_a_time(heads: Sequence[Lane], features: Features) -> None:
    """An epoch of all lanes by `HeadStack`, as the worker trains them."""
    stack = HeadStack([head.layer for head in heads])
    orders = zip(*(features.batches() for _ in heads), strict=True)
    for rows in map(torch.stack, orders):
        inputs, labels = features.take(rows.flatten())
        stack.gradients(inputs.view(*rows.shape, -1), labels.view_as(rows))
        for head in heads:
            head.optimizer.step(RECIPE.learning_rate)


def sides_of(features: Features) -> dict[str, tuple[int, Callable[[], None]]]:
    """Every way to train an epoch, by name, and how many lanes it trains."""
    one = a_lane(features)
    sides: dict[str, tuple[int, Callable[[], None]]] = {
        "graph": (1, lambda: by_graph(one, features))
    }
    for count in LANES:
        heads = [a_lane(features) for _ in range(count)]
        sides[f"{count} at a time"] = (count, lambda own=heads: at_a_time(own, features))
    return sides


def timed(features: Features, rounds: int) -> dict[str, list[float]]:
    """Microseconds a lane and step, tenth percentile, median and ninetieth, by side."""
    seconds: dict[str, list[float]] = {}
    steps = -(-len(features.labels) // BATCH_SIZE)
    sides = sides_of(features)
    wait = torch.cuda.synchronize if features.inputs.is_cuda else lambda: None
    for _ in range(rounds):
        for name, (heads, epoch) in sides.items():
            wait()
            began = time.perf_counter()
            epoch()
            wait()
            took = 1e6 * (time.perf_counter() - began) / heads / steps
            seconds.setdefault(name, []).append(took)
    return {name: spread(values) for name, values in seconds.items()}


def spread(values: Sequence[float]) -> list[float]:
    """Tenth percentile, median and ninetieth."""
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return [round(one, 1) for one in (tenths[0], statistics.median(values), tenths[-1])]


def lanes_of_other_bits(shapes: int, device: str) -> tuple[int, int]:
    """How many lanes of a stack have other logits than the same lane alone, and of how many."""
    torch.manual_seed(0)
    draw, other, all_lanes = random.Random(0), 0, 0
    for _ in range(shapes):
        heads, batch = draw.choice((2, 3, 5, 8, 16)), draw.choice((1, 7, 16, 31, 32, 64, 128))
        width = draw.choice((8, 24, 64, 511, 512, 2048))
        classes = draw.choice((2, 3, 6, 10, 100))
        layers = [nn.Linear(width, classes, device=device) for _ in range(heads)]
        inputs = torch.randn(heads, batch, width, device=device)
        for layer, own, found in zip(
            layers, inputs, HeadStack(layers).logits(inputs), strict=True
        ):
            alone = HeadStack([layer]).logits(own.clone().unsqueeze(0))
            other += not torch.equal(found, alone[0])
        all_lanes += heads
    return other, all_lanes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # As the worker trains small heads.
    figures: dict[str, Any] = {}
    for pictures, width, classes in SHAPES:
        labels = torch.randint(classes, (pictures,)).to(arguments.device)
        features = Features(torch.randn(pictures, width).to(arguments.device), labels, classes)
        name = f"{pictures} pictures, {width} features, {classes} classes"
        figures[name] = timed(features, arguments.rounds)
        print(f"{name}: microseconds a lane and step", flush=True)  # noqa: T201 - the table is the product
        for side, (low, median, high) in figures[name].items():
            print(f"  {side:>10}: {median:7.1f} ({low:.1f} to {high:.1f})", flush=True)  # noqa: T201
    other, heads = lanes_of_other_bits(300, arguments.device)
    figures["lanes_of_other_bits"] = [other, heads]
    print(f"{other} of {heads} lanes have other bits than alone")  # noqa: T201
    if arguments.json:
        print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
