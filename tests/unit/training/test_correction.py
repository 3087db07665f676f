"""The corrected value of a choice: by simulation, where the truth is known, and by cases that have one answer."""

from statistics import NormalDist, mean
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tests.support.pictures import tiny_columns
from trimtab.contract.recipe import Recipe
from worker.training.final.correction import NotCorrectable, TrialAnswers, corrected
from worker.training.final.intervals import interval_of, wilson
from worker.training.objective import objectives
from worker.training.objective.objectives import Classification

ACCURACY = Classification("accuracy", "maximize")
LOSS = Classification("loss", "minimize")
NORMAL = NormalDist()


def _hits(*trials: list[list[int]]) -> list[TrialAnswers]:
    """Return trials that are told right in these rows, each a list of epochs."""
    return [
        TrialAnswers(
            number, mean(map(mean, epochs)), np.array(epochs)[..., None], are_hits=True
        )
        for number, epochs in enumerate(trials)
    ]


def _labels(rows: int) -> Tensor:
    return torch.zeros(rows, dtype=torch.int64)


def _study(chance: np.random.Generator, rows: int) -> tuple[list[float], NDArray[Any]]:
    """Return the true accuracies of 30 trials near 0.85, and what each is told right of these rows.

    Rows that are hard are hard for all trials, so their answers are correlated.
    """
    able = NORMAL.inv_cdf(0.85) + 0.05 * chance.normal(size=30)
    scores = able[:, None] + 0.3**0.5 * chance.normal(size=rows)
    scores += 0.7**0.5 * chance.normal(size=(30, rows))
    return [NORMAL.cdf(one) for one in able], scores > 0


def test_the_corrected_interval_covers_the_truth_where_that_of_the_best_value_does_not() -> (
    None
):
    """48 studies; without the correction, the value is 5 points too high and its interval misses in one of three."""
    chance = np.random.default_rng(0)
    naive, right, gained = 0, 0, 0
    flattered: list[float] = []
    biases: list[float] = []
    for number in range(48):
        rows = (60, 100, 300)[number % 3]
        truth, hits = _study(chance, rows)
        values = hits.mean(axis=1)
        winner = int(chance.choice(np.flatnonzero(values == values.max())))
        own = wilson(hits[winner].astype(np.float64))
        trials = [
            TrialAnswers(n, values[n], one[None, :, None], True) for n, one in enumerate(hits)
        ]
        found = corrected(trials, _labels(rows), ACCURACY, seed=number)
        naive += own.low <= truth[winner] <= own.high
        right += found.value.low <= truth[winner] <= found.value.high
        gained += found.gain.low <= truth[winner] - truth[0] <= found.gain.high
        flattered.append(own.value - truth[winner])
        biases.append(found.value.value - truth[winner])
    assert naive / 48 < 0.8
    assert right / 48 > 0.9
    assert gained / 48 > 0.9
    assert mean(flattered) > 0.03
    assert abs(mean(biases)) < 0.01


def test_the_pick_is_measured_by_its_last_epoch_and_chosen_by_the_mean_of_its_epochs() -> None:
    # The second trial is the better one by its three epochs, and the worse one by its last.
    worse = [[1, 0] * 20, [0, 1] * 20, [1] * 40]
    better = [[1] * 40, [1] * 40, [1, 0] * 20]
    found = corrected(_hits(worse, better), _labels(40), ACCURACY)
    assert found.value.value == pytest.approx(0.5, abs=0.02)
    assert found.first == 1
    assert found.gain.value == pytest.approx(-0.5, abs=0.02)


def test_a_lot_decides_among_equals() -> None:
    first, second = [[1] * 30, [0] * 30], [[0] * 30, [1] * 30]
    found = corrected(_hits(first, second), _labels(30), ACCURACY)
    assert found.value.value == pytest.approx(0.5, abs=0.1)
    assert (found.value.low, found.value.high) == (0, 1)


def test_one_trial_was_not_chosen() -> None:
    found = corrected(_hits([[0] * 40, [1] * 30 + [0] * 10]), _labels(40), ACCURACY)
    assert found.value == wilson(np.array([1.0] * 30 + [0] * 10))
    assert found.first == found.value.value
    assert (found.gain.low, found.gain.high, found.trials, found.samples) == (0, 0, 1, 0)


def _outputs(trials: int, rows: int, columns: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(1, rows, columns, generator=chance) for _ in range(trials)]


def test_outputs_that_are_told_right_or_wrong_are_corrected_as_hits() -> None:
    labels = torch.arange(50) % 3
    outputs = _outputs(4, 50, 3)
    hits = [(one.argmax(dim=2) == labels).numpy()[..., None] for one in outputs]
    told = [TrialAnswers(n, 0.0, one.half().numpy()) for n, one in enumerate(outputs)]
    same = [TrialAnswers(n, 0.0, one, True) for n, one in enumerate(hits)]
    assert corrected(told, labels, ACCURACY) == corrected(same, labels, ACCURACY)


def test_rows_without_labels_count_in_no_sample() -> None:
    objective = objectives.of(tiny_columns("multi_label", metric="exact_match"), Recipe())
    labels = torch.tensor([[1, 0]] * 20 + [[torch.nan] * 2] * 60).double()
    right, wrong = torch.tensor([[[1.0, -1]]]), torch.tensor([[[-1.0, 1]]])
    told = [
        TrialAnswers(n, 0.0, one.repeat(1, 80, 1).numpy())
        for n, one in enumerate((wrong, right))
    ]
    found = corrected(told, labels, objective)
    assert (found.value.low, found.value.value, found.first) == (1, 1, 0)


def test_less_of_a_loss_is_better() -> None:
    labels = torch.arange(60) % 3
    guesses, noise = functional.one_hot(labels, 3).float(), _outputs(2, 60, 3)[0]
    first, best = noise, 2 * guesses + noise
    told = [TrialAnswers(n, 0.0, one.numpy()) for n, one in enumerate((first, best))]
    found = corrected(told, labels, LOSS)
    of_best = interval_of(LOSS, best[0], labels)
    assert found.value.value == pytest.approx(of_best.value, abs=0.1)
    assert found.gain.low > 0
    assert found.gain.value == pytest.approx(found.first - found.value.value)


class _Slow(Classification):
    """The mean of all outputs."""

    def value(self, outputs: Tensor, labels: Tensor) -> float | None:
        return outputs.mean().item()


def test_a_metric_that_takes_long_is_measured_of_the_best_trials_and_the_first() -> None:
    chance = np.random.default_rng(0)
    told = [
        TrialAnswers(n, worth, worth + chance.normal(size=(1, 100, 1000)))
        for n, worth in enumerate((0.2, 0.9, 0.1, 0.8, 0.7, 0.0, 0.6, 0.5))
    ]
    found = corrected(told, _labels(100), _Slow("auroc", "maximize"))
    assert (found.trials, found.samples) == (5, 100)
    assert found.value.value == pytest.approx(0.9, abs=0.02)
    assert found.first == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("trials", "rows", "why"),
    [
        ([], 20, "told no trial's answers"),
        (_hits([[1, 0] * 10], [[1] * 20]), 21, "trial 0 answered to 20 rows .* has 21"),
        (_hits([[1]], [[0]]), 1, "with 1 labelled rows is too small"),
    ],
)
def test_what_cannot_be_repeated_is_refused_in_words(
    trials: list[TrialAnswers], rows: int, why: str
) -> None:
    with pytest.raises(NotCorrectable, match=why):
        corrected(trials, _labels(rows), ACCURACY)
