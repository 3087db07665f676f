"""What the choice of the best trial is worth: repeated on bootstrap samples, and measured on the rows left out.

The value of the best of many trials flatters it: it was chosen by the very rows that it was measured on. So the whole
choice is repeated. Each bootstrap sample of the validation rows picks a trial by the study's own rule, and the pick is
measured on the rows that are not in the sample (bootstrap bias corrected cross-validation: Tsamardinos, Greasidou and
Borboudakis, Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation, Machine Learning
107, 2018, https://doi.org/10.1007/s10994-018-5714-4). Nothing is trained again for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.contract.final_report import Corrected, Interval
from worker.training.device.threads import computing_on
from worker.training.final.intervals import (
    FEWEST_SAMPLES,
    interval_of,
    percentiles,
    samples_for,
    wilson,
    work,
)
from worker.training.objective.objectives import Objective

_SAMPLES = 500
_FEWEST_TRIALS = 5
_TRIES = 3
"""The draws for each sample, at most, until the metric can be measured on the sample and on what it leaves out."""
_TIE = 1e-9
"""Values that differ by less are equal: sums of the same numbers may be rounded otherwise."""


class NotCorrectable(Exception):
    """The choice cannot be repeated; the message says why."""


@dataclass(frozen=True, slots=True)
class TrialAnswers:
    """What a trial answered to the validation rows.

    Attributes:
        number: The trial's number.
        value: Its objective value.
        outputs: The answers of the epochs whose mean is its value, `(epochs, rows, columns)`, the last epoch last.
        are_hits: Whether they say which rows are told right (one column of 0 and 1), and not what the last layer gave.
    """

    number: int
    value: float
    outputs: NDArray[Any]
    are_hits: bool = False


@computing_on(1)
def corrected(
    trials: Sequence[TrialAnswers], labels: Tensor, objective: Objective, *, seed: int = 0
) -> Corrected:
    """Return the value of the winner, corrected for the choice, and what it gained over the first trial.

    The interval is that of the 2.5 and 97.5 percentiles over the samples. One trial alone was not chosen: its interval
    is that of its last epoch, and no sample is drawn.

    A metric that takes long is measured on fewer samples, and then of fewer trials, the best and the first: hits, as of
    an accuracy, never are.

    Args:
        trials: The completed trials, in the order of their numbers: the first is what the others are compared with.
        labels: The labels of the validation split, `(rows,)` or `(rows, targets)`; NaN is a label that is not known.
        objective: The objective that trials were compared by.
        seed: The seed of the samples and of the lots among equals.

    Raises:
        NotCorrectable: There is no trial, the trials do not have these rows, or there are too few rows.
    """
    _check(trials, len(labels))
    table = _table(trials, labels, objective)
    if len(trials) == 1:
        return _unchosen(table.interval(0))
    sign = 1.0 if objective.direction == "maximize" else -1.0
    picks, firsts = _repeat(table, sign, np.random.default_rng(seed))
    gains = sign * (picks - firsts)
    return Corrected(
        value=percentiles(float(picks.mean()), picks),
        first=float(firsts.mean()),
        gain=percentiles(float(gains.mean()), gains),
        trials=table.trials,
        samples=len(picks),
    )


def _check(trials: Sequence[TrialAnswers], rows: int) -> None:
    if not trials:
        raise NotCorrectable(
            "the service told no trial's answers to the validation split: it is of an older release, or they were too long"
        )
    for trial in trials:
        if trial.outputs.shape[1] != rows:
            raise NotCorrectable(
                f"trial {trial.number} answered to {trial.outputs.shape[1]} rows of the validation split, which has {rows}"
            )


def _unchosen(value: Interval) -> Corrected:
    nothing = Interval(value=0.0, low=0.0, high=0.0)
    return Corrected(value=value, first=value.value, gain=nothing, trials=1, samples=0)


class _Table(Protocol):
    """The answers of all trials to all rows; trial 0 is the first."""

    trials: int
    rows: int
    samples: int

    def values(self, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return what each trial is compared by on these rows, `(trials,)`; None where that cannot be measured."""
        ...

    def last(self, trial: int, rows: NDArray[np.intp]) -> float | None:
        """Return the metric of a trial's last epoch on these rows."""
        ...

    def interval(self, trial: int) -> Interval:
        """Return the metric of a trial's last epoch on all rows."""
        ...


def _table(trials: Sequence[TrialAnswers], labels: Tensor, objective: Objective) -> _Table:
    if all(trial.are_hits for trial in trials):
        return _Hits([trial.outputs[..., 0].astype(np.float64) for trial in trials])
    if any(trial.are_hits for trial in trials):
        raise NotCorrectable("the trials told their answers in two forms")
    outputs = [torch.from_numpy(trial.outputs.astype(np.float32)) for trial in trials]
    of_trials = [[objective.hits(epoch, labels) for epoch in trial] for trial in outputs]
    known = [[hits for hits in epochs if hits is not None] for epochs in of_trials]
    if all(known):
        return _Hits([torch.stack(epochs).numpy() for epochs in known])
    sign = 1.0 if objective.direction == "maximize" else -1.0
    worth = [sign * trial.value for trial in trials]
    return _Metric(outputs, labels, objective, worth)


class _Hits:
    """Rows that are told right or wrong, of which the metric is the share: measured by sums.

    Args:
        trials: The hits of each trial, `(epochs, rows)`: 1, 0, or NaN in rows whose label is not known.
    """

    samples = _SAMPLES

    def __init__(self, trials: Sequence[NDArray[np.float64]]) -> None:
        known = ~np.isnan(trials[0][0])
        self._means = np.stack([hits[:, known].mean(axis=0) for hits in trials])
        self._last = np.stack([hits[-1, known] for hits in trials])
        self.trials, self.rows = self._last.shape

    def values(self, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        counts = np.bincount(rows, minlength=self.rows)
        return self._means @ counts / len(rows)

    def last(self, trial: int, rows: NDArray[np.intp]) -> float | None:
        return float(self._last[trial, rows].mean())

    def interval(self, trial: int) -> Interval:
        return wilson(self._last[trial])


class _Metric:
    """Outputs whose metric is computed anew for each sample."""

    def __init__(
        self,
        trials: Sequence[Tensor],
        labels: Tensor,
        objective: Objective,
        worth: Sequence[float],
    ) -> None:
        self._labels, self._objective = labels, objective
        measured = max(len(epochs) for epochs in trials) * work(objective.metric, trials[0][0])
        most = samples_for(FEWEST_SAMPLES * measured, fewest=_FEWEST_TRIALS)
        best = sorted(range(1, len(trials)), key=lambda position: -worth[position])[: most - 1]
        self._outputs = [trials[0], *(trials[position] for position in best)]
        self.trials, self.rows = len(self._outputs), len(labels)
        self.samples = samples_for(measured * self.trials, most=_SAMPLES)

    def values(self, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
        found = [[self._on(epoch, rows) for epoch in epochs] for epochs in self._outputs]
        known = [[value for value in values if value is not None] for values in found]
        if known != found:
            return None
        return np.array([np.mean(values) for values in known], dtype=np.float64)

    def last(self, trial: int, rows: NDArray[np.intp]) -> float | None:
        return self._on(self._outputs[trial][-1], rows)

    def interval(self, trial: int) -> Interval:
        return interval_of(self._objective, self._outputs[trial][-1], self._labels)

    def _on(self, outputs: Tensor, rows: NDArray[np.intp]) -> float | None:
        chosen = torch.from_numpy(rows)
        value = self._objective.value(outputs[chosen], self._labels[chosen])
        return value if value is not None and np.isfinite(value) else None


def _repeat(
    table: _Table, sign: float, chance: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return of each sample the values of its pick and of the first trial on the rows left out, `(samples,)` each."""
    found: list[tuple[float, float]] = []
    for _ in range(_TRIES * table.samples):
        bag = chance.integers(table.rows, size=table.rows)
        out = np.flatnonzero(np.bincount(bag, minlength=table.rows) == 0)
        values = table.values(bag) if len(out) else None
        if values is None:
            continue
        pick, first = table.last(_pick(sign * values, chance), out), table.last(0, out)
        if pick is not None and first is not None:
            found.append((pick, first))
            if len(found) == table.samples:
                break
    if len(found) < FEWEST_SAMPLES:
        raise NotCorrectable(
            f"a validation split with {table.rows} labelled rows is too small to repeat the choice on parts of it"
        )
    picks, firsts = np.array(found).T
    return picks, firsts


def _pick(worth: NDArray[np.float64], chance: np.random.Generator) -> int:
    """Return the position of the best trial; a lot decides among equals."""
    return int(chance.choice(np.flatnonzero(worth >= worth.max() - _TIE)))
