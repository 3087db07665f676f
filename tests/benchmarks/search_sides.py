"""Test functions, and the studies that search them: ours, and two of plain Optuna's TPE."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.samplers import TPESampler

from service.domain.facts import TrialFacts
from service.sampling import Proposal, Sampling
from service.sampling.distributions import distributions
from service.sampling.joint import Kernels
from service.sampling.sampling import LARGEST_SHOWN
from service.sampling.study import seed_of
from tests.unit.sampling.ledger import Ledger, document
from trimtab.contract.search_space import Dimension, FloatRange, Scalar

Point = Mapping[str, Scalar]

# Picheny, Wagner & Ginsbourger, "A benchmark of kriging-based infill criteria", 2013.
ALPHA = (1.0, 1.2, 3.0, 3.2)
A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _hartmann6(x: Sequence[float]) -> float:
    total = 0.0
    for alpha, scale, centre in zip(ALPHA, A, P, strict=True):
        distance = sum(a * (v - p) ** 2 for a, v, p in zip(scale, x, centre, strict=True))
        total += alpha * math.exp(-distance)
    return total


def _rastrigin(x: Sequence[float]) -> float:
    return -sum(v * v - 10 * math.cos(2 * math.pi * v) + 10 for v in x)


@dataclass(frozen=True)
class Function:
    """A function to maximise over a cube."""

    name: str
    dimensions: int
    low: float
    high: float
    optimum: float
    at: Callable[[Sequence[float]], float]

    @property
    def space(self) -> dict[str, Dimension]:
        side = FloatRange(kind="float", low=self.low, high=self.high)
        return {f"x{n}": side for n in range(self.dimensions)}

    def value(self, point: Point) -> float:
        return self.at([float(point[name] or 0) for name in self.space])


FUNCTIONS = (
    Function("hartmann6", 6, 0.0, 1.0, 3.32237, _hartmann6),
    Function("rastrigin4", 4, -5.12, 5.12, 0.0, _rastrigin),
)


class Searcher(Protocol):
    """A study under search: trials are asked for and told."""

    def ask(self) -> tuple[int, Point]: ...

    def tell(self, number: int, value: float) -> None: ...


class Ours:
    """The sampling room over a history in memory."""

    def __init__(
        self,
        function: Function,
        seed: int,
        cap: int | None = LARGEST_SHOWN,
        sampler: str = "tpe",
        kernels: Kernels = "arrays",
    ) -> None:
        # No worker understands x0, x1, ...: past the document's own check, with another space.
        update = {"space": function.space}
        self._document = document(seed=seed, sampler=sampler).model_copy(update=update)
        self._ledger = Ledger()
        self._sampling = Sampling(
            self._ledger.read, time.monotonic, largest_shown=cap, kernels=kernels
        )
        self._points: list[Point] = []

    def add(self, point: Point, value: float) -> None:
        self._points.append(point)
        self.tell(len(self._points) - 1, value)

    def ask(self) -> tuple[int, Point]:
        number = len(self._points)
        with self._sampling.proposal(
            1, self._document, claim_id=str(number), next_number=number
        ) as proposal:
            assert isinstance(proposal, Proposal)
            self._ledger.commit(TrialFacts(number, "running", proposal.values))
            self._points.append(proposal.values)
        return number, proposal.values

    def tell(self, number: int, value: float) -> None:
        self._ledger.commit(TrialFacts(number, "completed", self._points[number], (), value))

    def abandon(self, number: int) -> None:
        self._ledger.commit(TrialFacts(number, "cancelled", self._points[number]))


class Exact(Ours):
    """The same, with TPE through Optuna's own kernels."""

    def __init__(self, function: Function, seed: int) -> None:
        super().__init__(function, seed, kernels="optuna")


class Optunas:
    """Plain Optuna in memory: TPE, multivariate, with the constant liar, its random numbers one stream."""

    def __init__(self, function: Function, seed: int) -> None:
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space = dict(distributions(function.space))

    def add(self, point: Point, value: float) -> None:
        self._study.add_trial(
            optuna.create_trial(params=dict(point), distributions=self._space, value=value)
        )

    def ask(self) -> tuple[int, Point]:
        trial = self._study.ask(self._space)
        return trial.number, trial.params

    def tell(self, number: int, value: float) -> None:
        self._study.tell(number, value)

    def abandon(self, number: int) -> None:
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)


class Twin(Optunas):
    """Plain Optuna that is seeded anew for each trial, as ours is: with the same random numbers as ours."""

    def __init__(self, function: Function, seed: int) -> None:
        super().__init__(function, seed)
        self._seed = seed
        self._asked = 0

    def ask(self) -> tuple[int, Point]:
        # What our room hands to Optuna for the claim of this number.
        seed = seed_of(self._seed, str(self._asked))
        self._study.sampler = TPESampler(multivariate=True, constant_liar=True, seed=seed)
        self._asked += 1
        return super().ask()
