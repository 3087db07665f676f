"""What it costs to use a model: its parameters, and the time that it takes for one sample."""

import time
from statistics import median

import torch
from torch import Tensor

from worker.training.device import placement
from worker.training.model.backbones import Backbone

WARM_UP = 5
"""The first passes choose kernels and fill caches; nobody waits for those twice."""
FEWEST, MOST, ENOUGH_S = 11, 101, 0.25
"""Passes that are timed: at least the first number, then until so many seconds or the second number are over."""


def parameters(model: Backbone) -> int:
    """Return the number of parameters of a model as it is exported: of its network with the head, frozen ones included.

    What LoRA trains is part of the weights that it is added to. Statistics of normalisations are no parameters.
    """
    return sum(parameter.numel() for parameter in model.network.parameters())


def latency_ms(model: Backbone, sample: Tensor, *, precision: str) -> float:
    """Return the median of the milliseconds that a model takes for one sample, after warm-up.

    It is the forward pass with the layer that normalises its input, from a stored sample on the device to the outputs
    there. The model is put into evaluation mode and stays in it.

    Args:
        model: The model, on the device that it is measured on.
        sample: One sample as the data set stores it, `(1, ...)`, on the same device.
        precision: The precision to compute in, by its name in a recipe.
    """
    return median(passes_ms(model, sample, precision=precision, enough_s=ENOUGH_S))


def passes_ms(
    model: Backbone, sample: Tensor, *, precision: str, enough_s: float = 0.0
) -> list[float]:
    """Return the milliseconds that a model takes for one sample, pass by pass, after warm-up.

    The model is put into evaluation mode and stays in it.

    Args:
        model: The model, on the device that it is measured on.
        sample: One sample as the data set stores it, `(1, ...)`, on the same device.
        precision: The precision to compute in, by its name in a recipe.
        enough_s: The seconds that all timed passes take at least, as long as they are fewer than `MOST`.
    """
    model.eval()
    with torch.inference_mode(), placement.autocast(sample.device, precision):
        for _ in range(WARM_UP):
            _timed_s(model, sample)
        taken = [_timed_s(model, sample) for _ in range(FEWEST)]
        while len(taken) < MOST and sum(taken) < enough_s:
            taken.append(_timed_s(model, sample))
    return [1000 * one for one in taken]


def _timed_s(model: Backbone, sample: Tensor) -> float:
    began = time.perf_counter()
    model(sample)
    if sample.device.type == "cuda":
        # The call returns as soon as the work is queued.
        torch.cuda.synchronize(sample.device)
    return time.perf_counter() - began
