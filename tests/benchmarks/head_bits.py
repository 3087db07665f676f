"""Which shapes of heads are trained together on which processor, and whether padding brings the others back.

`./run bench head-bits [--here]`

Heads are stacked where the batched product gives each lane the bits that it gives that lane alone
(`worker.training.loop.head_stack.keeps_bits`); elsewhere they are trained one after the other. A row tells, for one choice of
instructions, in how many shapes of a grid (lanes, batch, features, classes) the stack is lost, at which widths, in how many it
is lost still with features padded with zeros to a multiple of 8 and of 16, and in how many the padded product gives a single
lane other bits than the plain one. `--here` prints the row of this process alone, as it was started.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.support import as_on_amd
from worker.training.loop.head_stack import HeadStack, keeps_bits

LANES = (2, 8)
BATCHES = (1, 2, 4, 5, 7, 8, 10, 16, 31, 32, 64)
WIDTHS = (8, 12, 24, 45, 50, 63, 64, 66, 100, 511, 512, 513)
CLASSES = (2, 3, 6, 10, 100)
MULTIPLES = (8, 16)
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "MKL held to AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "MKL held to SSE4.2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "MKL_CBWR=AVX2": {"MKL_CBWR": "AVX2"},
    "MKL_CBWR=COMPATIBLE": {"MKL_CBWR": "COMPATIBLE"},
    "oneDNN held to AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "oneDNN held to AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "torch held to AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch without either": {"ATEN_CPU_CAPABILITY": "default"},
    "all held to AVX2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
}

Shape = tuple[int, int, int, int]
"""Lanes, batch, features, classes."""


def padded(width: int, multiple: int) -> int:
    """The next multiple."""
    return -(-width // multiple) * multiple


def alone(shape: Shape, width: int) -> list[Tensor]:
    """Losses and gradients of one lane, its features padded with zeros up to `width`."""
    _, batch, own, classes = shape
    drawn = torch.Generator().manual_seed(0)
    layer = nn.Linear(width, classes)
    features = torch.zeros(1, batch, width)
    features[..., :own] = torch.randn(1, batch, own, generator=drawn)
    weights = torch.randn(classes, own, generator=drawn)
    with torch.no_grad():
        layer.weight.zero_()[:, :own] = weights
        layer.bias.zero_()
    labels = torch.randint(classes, (1, batch), generator=drawn)
    losses = HeadStack([layer]).gradients(features, labels)
    assert layer.weight.grad is not None
    return [losses, layer.weight.grad[:, :own]]


def pads_to_the_same_bits(shape: Shape, multiple: int) -> bool:
    """Whether zeros behind the features change nothing that one lane computes."""
    plain, other = alone(shape, shape[2]), alone(shape, padded(shape[2], multiple))
    return all(map(torch.equal, plain, other))


def row() -> str:
    """What holds in this process."""
    torch.set_num_threads(1)  # As the worker trains small heads.
    shapes = list(itertools.product(LANES, BATCHES, WIDTHS, CLASSES))
    lost = [shape for shape in shapes if not keeps_bits(*shape)]
    widths = Counter(width for _, _, width, _ in lost)
    cells = [f"{len(lost)} of {len(shapes)}"]
    cells.append(", ".join(f"{width} ({count})" for width, count in sorted(widths.items())))
    for multiple in MULTIPLES:
        still = sum(not keeps_bits(n, b, padded(w, multiple), c) for n, b, w, c in lost)
        uneven = [shape for shape in shapes if shape[0] == LANES[0] and shape[2] % multiple]
        other = sum(not pads_to_the_same_bits(shape, multiple) for shape in uneven)
        cells.append(f"{still}; {other} of {len(uneven)}")
    return " | ".join(cells)


def row_with(variables: dict[str, str]) -> str:
    """What holds in a process with these environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.head_bits", "--here"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", action="store_true")
    if parser.parse_args().here:
        print(row())  # noqa: T201 - the row is the product
        return
    heading = " | ".join(f"padded to {n}: lost; other bits" for n in MULTIPLES)
    print(f"instructions | lost | at widths | {heading}")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="trimtab-amd-") as folder:
        for name, variables in SETTINGS.items():
            print(f"{name} | {row_with(variables)}", flush=True)  # noqa: T201
        print(f"as on AMD | {row_with(as_on_amd.environment(Path(folder)))}")  # noqa: T201


if __name__ == "__main__":
    main()
