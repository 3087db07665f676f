"""What a data set looks like to a pretrained backbone, in a few numbers by which data sets are compared."""

import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor

from trimtab.contract.records import MOST_STATISTICS, DataFeatures
from worker.data import TaskData
from worker.training.errors import is_out_of_memory
from worker.training.features import features
from worker.training.model.backbones import Backbone

SAMPLES = 128
"""Enough for a mean whose error is a tenth of the features' own spread; an epoch computes far more."""
BATCH_SIZE = 32


@dataclass(frozen=True)
class KnownStatistics:
    """Remembers what was computed in this process: each data set is looked at once with each backbone."""

    _known: dict[tuple[str, str], DataFeatures | None] = field(
        default_factory=dict[tuple[str, str], DataFeatures | None]
    )

    def of(self, model: Backbone, data: TaskData, device: torch.device) -> DataFeatures | None:
        """Return the statistics of a data set; None where they would tell nothing, or there is no memory for them.

        Args:
            model: The backbone, with its pretrained weights; it is moved to the device.
            data: The data set.
            device: The device that computes them.
        """
        if model.report is None:
            return None  # of random weights, which differ from trial to trial
        backbone = _identity(model, data)
        key = (backbone, data.sha256)
        if key not in self._known:
            values = _statistics(model, data, device)
            found = DataFeatures(backbone=backbone, values=values) if values else None
            self._known[key] = found
        return self._known[key]


def _identity(model: Backbone, data: TaskData) -> str:
    # The length of the longest text is the data's own, and no other form of them.
    is_text = model.shape is not None
    size = model.pooling if is_text else "x".join(map(str, data.train.inputs.shape[1:]))
    return f"{model.name} {features.digest(model, len(model.stages))[:16]} {size}"


def _statistics(
    model: Backbone, data: TaskData, device: torch.device
) -> tuple[float, ...] | None:
    inputs = data.train.inputs
    rows = np.unique(np.linspace(0, len(inputs) - 1, SAMPLES).astype(int))
    model.to(device, memory_format=model.input.memory_format)  # pyright: ignore[reportCallIssue] - both in one walk, which torch's types do not know
    model.try_on(torch.from_numpy(inputs[:2]).to(device))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            seen = [
                model.features(torch.from_numpy(inputs[some]).to(device)).flatten(1).cpu()
                for some in np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
            ]
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise
    finally:
        model.train(was_training)
    return projected(torch.cat(seen).double())


def projected(found: Tensor) -> tuple[float, ...] | None:
    """Project means and standard deviations of features `(N, F)` to 16 numbers, which keeps distances nearly as they are.

    The projection is random and always the same (Johnson and Lindenstrauss, 1984). None where a feature is not finite.
    """
    told = torch.cat([found.mean(dim=0), found.std(dim=0, correction=0)])
    fixed = torch.Generator().manual_seed(0)
    directions = torch.randn(len(told), MOST_STATISTICS, generator=fixed, dtype=torch.float64)
    projection = told @ directions / math.sqrt(MOST_STATISTICS)
    values = cast(list[float], projection.tolist())
    return tuple(values) if all(map(math.isfinite, values)) else None
