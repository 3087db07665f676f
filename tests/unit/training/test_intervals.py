"""Intervals of metrics: against published values, formulas, and what cannot be resampled."""

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.pictures import tiny_columns
from trimtab.contract.recipe import Recipe
from worker.training.final import intervals
from worker.training.final.intervals import interval_of, paired_difference
from worker.training.objective import objectives
from worker.training.objective.objectives import Classification

ACCURACY = Classification("accuracy", "maximize")
LOSS = Classification("loss", "minimize")


def _answers(hits: list[int]) -> tuple[Tensor, Tensor]:
    """Return outputs of two classes and labels, of which these rows are told right."""
    labels = torch.zeros(len(hits), dtype=torch.int64)
    right = torch.tensor(hits, dtype=torch.float32)
    return torch.stack([right, 1 - right], dim=1), labels


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe, 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_an_accuracy_has_wilsons_interval(
    right: int, count: int, low: float, high: float
) -> None:
    outputs, labels = _answers([1] * right + [0] * (count - right))
    found = interval_of(ACCURACY, outputs, labels)
    assert found.value == right / count
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_a_row_without_a_label_does_not_count() -> None:
    data = tiny_columns("multi_label", metric="exact_match")
    labels = torch.tensor([[1, 0]] * 8 + [[0, 1]] * 2 + [[torch.nan] * 2] * 30)
    outputs = torch.tensor([[1.0, -1.0]]).repeat(40, 1)
    found = interval_of(objectives.of(data, Recipe()), outputs, labels.double())
    assert found == intervals.wilson(np.array([1.0] * 8 + [0.0] * 2))
    assert (round(found.low, 3), round(found.high, 3)) == (0.490, 0.943)


def test_another_metric_has_the_percentiles_of_samples_of_its_rows() -> None:
    chance = torch.Generator().manual_seed(0)
    outputs = torch.randn(400, 2, generator=chance)
    labels = torch.randint(2, (400,), generator=chance)
    each = torch.nn.functional.cross_entropy(outputs.double(), labels, reduction="none")
    found = interval_of(LOSS, outputs, labels)
    error = each.std().item() / sqrt(400)
    assert found.value == pytest.approx(each.mean().item())
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)
    assert interval_of(LOSS, outputs, labels) == found


def test_a_sample_without_the_labels_that_a_metric_needs_is_drawn_again() -> None:
    auroc = Classification("auroc", "maximize")
    outputs = torch.tensor([[3.0, 0], [2, 0], [0, 0], [0, 1], [0, 2], [0, 3]])
    # One sample in ten has the labels of one class alone; in all others, the classes lie apart as they do here.
    found = interval_of(auroc, outputs, torch.tensor([0, 0, 0, 0, 1, 1]))
    assert (found.low, found.value, found.high) == (1, 1, 1)


def test_one_row_has_no_interval() -> None:
    outputs, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    found = interval_of(LOSS, outputs, labels)
    assert found.low == found.value == found.high


def test_the_interval_of_a_column_counts_its_own_labels() -> None:
    data = tiny_columns("multi_task", metric="species.accuracy")
    objective = objectives.of(data, Recipe())
    chance = torch.Generator().manual_seed(0)
    outputs = torch.randn(len(data.train), sum(t.width for t in data.targets), generator=chance)
    labels = torch.from_numpy(data.train.labels)
    hits = objective.hits(outputs, labels)
    assert hits is not None
    assert hits.isnan().equal(labels[:, 0].isnan())
    assert hits.nanmean().item() == objective.metrics(outputs, labels)["species.accuracy"]


def test_a_difference_is_of_the_same_rows_and_above_0_where_the_first_is_better() -> None:
    ours, labels = _answers([1] * 90 + [0] * 10)
    theirs, _ = _answers([1] * 80 + [0] * 20)
    found = paired_difference(ACCURACY, ours, theirs, labels)
    assert found.interval.value == pytest.approx(0.1)
    # Ten rows differ, all one way: the share's own standard error, and not that of two independent shares, 0.05.
    assert found.standard_error == pytest.approx(sqrt(0.1 * 0.9 / 100), rel=0.05)
    assert 0 < found.interval.low < 0.06 < 0.15 < found.interval.high


def test_the_difference_of_a_loss_is_above_0_where_the_first_is_less() -> None:
    labels = torch.zeros(50, dtype=torch.int64)
    surer = torch.stack([torch.linspace(1, 3, 50), torch.zeros(50)], dim=1)
    found = paired_difference(LOSS, surer, surer / 2, labels)
    assert found.interval.low > 0
    assert found.interval.value == pytest.approx(
        LOSS.metrics(surer / 2, labels)["loss"] - LOSS.metrics(surer, labels)["loss"]
    )


def test_a_metric_that_takes_long_has_fewer_samples() -> None:
    few, many = torch.zeros(300, 10), torch.zeros(10_000, 100)
    assert intervals.samples_for(intervals.work("auroc", few)) == 1000
    assert intervals.samples_for(intervals.work("auroc", many)) == 100
    assert intervals.samples_for(intervals.work("loss", many[:5000])) == 396
