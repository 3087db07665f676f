"""How far a measured metric can be trusted: its interval over the rows that it was measured on.

One thread computes: a metric of some hundred rows is so little work that two would only wait for one another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.contract.final_report import Interval
from trimtab.contract.metrics import plain
from worker.training.device.threads import computing_on
from worker.training.objective.objectives import Objective

_Z = 1.959964
"""The 97.5 % point of the normal distribution."""
_SAMPLES = 1000
FEWEST_SAMPLES = 100
_MOST_WORK = 20_000_000
"""The work of all samples together, in the unit of `work`: about five seconds of one core."""
_RANKED = frozenset({"auroc", "average_precision", "f1", "f1_macro", "spearman"})
"""Metrics that rank the rows, and those that are computed together with such."""
_TRIES = 3
"""The draws for each sample, at most, until one has the labels that the metric needs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model is than another on the same rows.

    Attributes:
        interval: The difference in the objective's unit with its 95 % interval: above 0, the first model is better.
        standard_error: The standard deviation of the difference over the bootstrap samples.
    """

    interval: Interval
    standard_error: float


@computing_on(1)
def interval_of(
    objective: Objective, outputs: Tensor, labels: Tensor, *, seed: int = 0
) -> Interval:
    """Return the objective of a model on a split, with its 95 % interval.

    A share of right answers has Wilson's score interval (1927, https://doi.org/10.1080/01621459.1927.10502953), which
    holds for few rows and for shares near 0 and 1 too. Any other metric has the 2.5 and 97.5 percentiles of bootstrap
    samples of the rows (Efron, 1979, https://doi.org/10.1214/aos/1176344552).

    Where the rows are too few or too alike for another sample to have another value, `low` and `high` are `value`.

    Args:
        objective: The objective, whose metric is measured.
        outputs: The outputs of the last layer, `(N, width)`.
        labels: The labels of the same rows, `(N,)` or `(N, targets)`; NaN is a label that is not known.
        seed: The seed of the samples.

    Raises:
        KeyError: The labels are too alike for the metric to be measured at all.
    """
    outputs, labels = outputs.cpu(), labels.cpu()
    hits = objective.hits(outputs, labels)
    if hits is not None:
        return wilson(hits.numpy())
    value = objective.value(outputs, labels)
    if value is None:
        raise KeyError(objective.metric)
    found = _resampled(
        lambda rows: objective.value(outputs[rows], labels[rows]),
        len(labels),
        samples_for(work(objective.metric, outputs)),
        seed,
    )
    return percentiles(value, found)


@computing_on(1)
def paired_difference(
    objective: Objective, ours: Tensor, theirs: Tensor, labels: Tensor, *, seed: int = 0
) -> Difference:
    """Return how much better a model is than another, by bootstrap samples of the rows that both answered.

    Args:
        objective: The objective, whose metric is measured.
        ours: The outputs of the model, `(N, width)`.
        theirs: The outputs of the other one for the same rows.
        labels: The labels of the rows.
        seed: The seed of the samples.

    Raises:
        KeyError: The labels are too alike for the metric to be measured at all.
    """
    ours, theirs, labels = ours.cpu(), theirs.cpu(), labels.cpu()
    sign = 1.0 if objective.direction == "maximize" else -1.0

    def gain(rows: Tensor) -> float | None:
        both = [objective.value(outputs[rows], labels[rows]) for outputs in (ours, theirs)]
        return None if both[0] is None or both[1] is None else sign * (both[0] - both[1])

    hits = (objective.hits(ours, labels), objective.hits(theirs, labels))
    if hits[0] is not None and hits[1] is not None:
        return _difference_of_hits((hits[0] - hits[1]).numpy(), seed)
    value = gain(torch.arange(len(labels)))
    if value is None:
        raise KeyError(objective.metric)
    found = _resampled(gain, len(labels), samples_for(2 * work(objective.metric, ours)), seed)
    return Difference(percentiles(value, found), _deviation(found))


def wilson(hits: NDArray[np.float64]) -> Interval:
    """Return Wilson's interval of a share.

    Args:
        hits: The rows, `(N,)`: 1 is right, 0 is wrong, NaN is not known and does not count.
    """
    known = hits[~np.isnan(hits)]
    count, share = len(known), float(known.mean())
    middle = share + _Z**2 / (2 * count)
    half = _Z * sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return _around(share, (middle - half) / scale, (middle + half) / scale)


def percentiles(value: float, found: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Return a value with the 2.5 and 97.5 percentiles of what samples found; with itself where none did."""
    low, high = np.quantile(found, (0.025, 0.975)) if len(found) else (value, value)
    return _around(value, float(low), float(high))


def _around(value: float, low: float, high: float) -> Interval:
    # A value at the edge may lie outside by rounding, and that of a skewed metric by the bias of its samples.
    return Interval(value=value, low=min(low, value), high=max(high, value))


def work(metric: str, outputs: Tensor) -> int:
    """Return about how long a metric takes to compute, in quarters of a microsecond of one core.

    Some rank the rows anew for each column, which takes long even where the rows are few.
    """
    rows, columns = outputs.shape
    if plain(metric) in _RANKED:
        return columns * (1000 + rows)
    return 400 + rows * columns // 10


def samples_for(work_of_one: int, *, most: int = _SAMPLES, fewest: int = FEWEST_SAMPLES) -> int:
    """Return the number of bootstrap samples that the time is enough for, between these two."""
    return max(fewest, min(most, _MOST_WORK // work_of_one))


def _difference_of_hits(gains: NDArray[np.float64], seed: int) -> Difference:
    known = gains[~np.isnan(gains)]
    chance = np.random.default_rng(seed)
    found = [float(chance.choice(known, len(known)).mean()) for _ in range(_SAMPLES)]
    return Difference(percentiles(float(known.mean()), found), _deviation(found))


def _resampled(
    measure: Callable[[Tensor], float | None], rows: int, samples: int, seed: int
) -> list[float]:
    """Measure bootstrap samples; one that has too few different labels for the metric is drawn again."""
    chance = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(_TRIES * samples):
        value = measure(torch.from_numpy(chance.integers(rows, size=rows)))
        # A metric of targets without a known label is absent, or not a number.
        if value is not None and np.isfinite(value):
            found.append(value)
            if len(found) == samples:
                break
    return found


def _deviation(found: Sequence[float]) -> float:
    return float(np.std(found)) if found else 0.0
