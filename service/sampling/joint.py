"""TPE as a study uses it: in arrays, or through Optuna's own kernels, which tests and benchmarks compare it with."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from pydantic import JsonValue

from service.sampling.asking import ask
from service.sampling.canonical import Canonical
from service.sampling.distributions import Distributions
from service.sampling.history import History
from service.sampling.parzen import TPE, Split
from service.sampling.tpe import JointTPE, Shown
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Scalar

Kernels = Literal["arrays", "optuna"]
"""The kernels of TPE: ours in arrays, or Optuna's own, which propose to the last bit what plain Optuna does."""

Values = Mapping[str, Scalar]
CHUNK = 2045
"""The longest text that Optuna keeps in one attribute of a trial."""


class Joint(Protocol):
    """TPE over the history of one study. `look` is called while the history stands still, `candidates` after it."""

    def look(self, history: History, in_flight: Sequence[Values], next_number: int) -> None:
        """Note which trials are good and which are not, and what is in flight."""
        ...

    def candidates(self, seed: int) -> Iterator[Values]:
        """Yield points to propose, the best first."""
        ...


class ArrayTPE:
    """TPE in arrays, which are kept from one proposal to the next."""

    def __init__(
        self, distributions: Distributions, largest_shown: int | None, canonical: Canonical
    ) -> None:
        self._tpe = TPE(distributions, canonical.whole if canonical else None)
        self._largest_shown = largest_shown
        self._looked: tuple[History, Split, Sequence[Values]] | None = None

    def look(self, history: History, in_flight: Sequence[Values], next_number: int) -> None:
        """Note which trials are good and which are not, and what is in flight."""
        self._looked = history, history.split(self._largest_shown), in_flight

    def candidates(self, seed: int) -> Iterator[Values]:
        """Yield points to propose, the best first."""
        if self._looked is None:
            raise RuntimeError("nothing was looked at")
        history, split, in_flight = self._looked
        # The history may have moved on since; it drops no trial, and a trial's values never change.
        self._tpe.show(split, lambda number: history[number].hyperparameters, in_flight)
        return self._tpe.candidates(seed)


class OptunaTPE:
    """TPE through Optuna's own sampler: several times slower, and the same to the last bit as plain Optuna.

    Only tests and benchmarks choose it: it is what the arrays are compared with.
    """

    def __init__(
        self, distributions: Distributions, direction: Direction, largest_shown: int | None
    ) -> None:
        self._distributions = distributions
        self._direction: Direction = direction
        self._largest_shown = largest_shown
        self._shown = Shown(distributions)
        self._trials = self._shown.show(())
        self._number = 0

    def look(self, history: History, in_flight: Sequence[Values], next_number: int) -> None:
        """Note the trials, and what is in flight as trials that run."""
        trials = self._shown.show(history.capped(self._largest_shown))
        number = max(history.next_number, next_number)
        for values in in_flight:
            trials.append(self._shown.running(number, values))
            number += 1
        self._trials, self._number = trials, number

    def candidates(self, seed: int) -> Iterator[Values]:
        """Yield the one point that Optuna proposes."""
        sampler = JointTPE(self._distributions, seed=seed, startup_trials=0)
        yield ask(
            sampler, self._distributions, self._trials, self._number, self._direction
        ).values


def joint_tpe(
    kernels: Kernels,
    distributions: Distributions,
    direction: Direction,
    largest_shown: int | None,
    canonical: Canonical,
) -> Joint:
    """Return the TPE of a study; conditional spaces always have the arrays, since Optuna's kernels score no whole points."""
    if kernels == "optuna" and not canonical:
        return OptunaTPE(distributions, direction, largest_shown)
    return ArrayTPE(distributions, largest_shown, canonical)


def attributes(distributions: Distributions, values: Values) -> dict[str, JsonValue]:
    """Return what Optuna's TPE keeps of a proposal: its values of active dimensions that leave a choice, in pieces."""
    found = {
        name: values[name]
        for name, one in distributions.items()
        if name in values and not one.single()
    }
    text = json.dumps(found)
    return {
        f"tpe:relative_params:{start // CHUNK}": text[start : start + CHUNK]
        for start in range(0, len(text), CHUNK)
        if found
    }
