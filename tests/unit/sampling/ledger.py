"""What the sampling room is used with in tests: studies in memory, a clock set by hand, spaces."""

import random
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from service.domain.facts import Changes, Cursor, TrialFacts
from service.sampling import Judgement
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, Scalar
from trimtab.contract.studies import StudyDocument

SPACE: dict[str, Any] = {
    "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9},
    "warmup_epochs": {"kind": "float", "low": 0.0, "high": 2.0, "step": 0.25},
    "frozen_stages": {"kind": "int", "low": 0, "high": 4},
    "batch_size": {"kind": "int", "low": 16, "high": 128, "log": True},
    "early_stopping_patience": {"kind": "int", "low": 0, "high": 9, "step": 3},
    "optimizer": {"kind": "choices", "choices": ["sgd", "adam", "adamw"]},
    "image_size": {"kind": "choices", "choices": [None, 16, 32]},
}


def document(
    space: Mapping[str, Any] = SPACE, *, objective: str = "accuracy", **search: Any
) -> StudyDocument:
    return StudyDocument.model_validate(
        {
            "name": "study",
            "task": {
                "kind": "classification",
                "dataset": {"kind": "builtin", "name": "digits"},
                "objective": objective,
            },
            "model": {"backbone": "glyphnet"},
            "space": space,
            "search": search,
            "budget": {"trials": 100},
        }
    )


def stopped(judgement: Judgement | None) -> bool:
    """Whether a trial was told to stop, where it was told anything."""
    assert judgement is not None
    return judgement.stop


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Ledger:
    """Trials of studies with their changes in the order in which they were committed."""

    def __init__(self, *trials: TrialFacts, study_id: int = 1) -> None:
        self._changes: defaultdict[int, list[TrialFacts]] = defaultdict(list)
        self.reads: list[tuple[int, Cursor | None]] = []
        self.commit(*trials, study_id=study_id)

    def commit(self, *trials: TrialFacts, study_id: int = 1) -> None:
        self._changes[study_id].extend(trials)

    def read(self, study_id: int, cursor: Cursor | None) -> Changes:
        self.reads.append((study_id, cursor))
        changes = self._changes[study_id]
        since = {trial.number: trial for trial in changes[cursor[1] if cursor else 0 :]}
        return Changes(tuple(since.values()), (1, len(changes)))


def any_values(space: Mapping[str, Dimension], rng: random.Random) -> dict[str, Scalar]:
    return {name: _any_value(dimension, rng) for name, dimension in space.items()}


def _any_value(dimension: Dimension, rng: random.Random) -> Scalar:
    match dimension:
        case Choices():
            return rng.choice(dimension.choices)
        case IntRange():
            return rng.randrange(dimension.low, dimension.high + 1, dimension.step)
        case FloatRange(step=None):
            return rng.uniform(dimension.low, dimension.high)
        case FloatRange():
            steps = round((dimension.high - dimension.low) / (dimension.step or 1))
            return dimension.low + rng.randint(0, steps) * (dimension.step or 1)


def completed(number: int, values: Mapping[str, Scalar], value: float) -> TrialFacts:
    return TrialFacts(number, "completed", values, ((0, value / 2), (1, value)), value)


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


@st.composite
def float_ranges(draw: st.DrawFn) -> FloatRange:
    match draw(st.sampled_from(["plain", "log", "step"])):
        case "log":
            low, high = sorted([draw(finite(1e-12, 1e6)), draw(finite(1e-12, 1e6))])
            return FloatRange(kind="float", low=low, high=high, log=True)
        case "step":
            # A step divides its range as decimals do.
            low, step = draw(st.integers(-100_000, 100_000)), draw(st.integers(1, 10_000))
            high = low + draw(st.integers(1, 50)) * step
            return FloatRange(kind="float", low=low / 1e3, high=high / 1e3, step=step / 1e3)
        case _:
            low, high = sorted([draw(finite(-1e6, 1e6)), draw(finite(-1e6, 1e6))])
            return FloatRange(kind="float", low=low, high=high)


@st.composite
def int_ranges(draw: st.DrawFn) -> IntRange:
    log = draw(st.booleans())
    low = draw(st.integers(1, 1000) if log else st.integers(-1000, 1000))
    step = 1 if log else draw(st.integers(1, 20))
    high = low + step * draw(st.integers(1, 100) if step > 1 else st.integers(0, 100))
    return IntRange(kind="int", low=low, high=high, log=log, step=step)


def choices() -> st.SearchStrategy[Choices]:
    scalars: st.SearchStrategy[Scalar] = st.one_of(
        st.none(), st.booleans(), st.integers(-10, 10), finite(-10, 10), st.text(max_size=3)
    )
    several = st.lists(scalars, min_size=1, max_size=6, unique=True)
    return several.map(lambda found: Choices(kind="choices", choices=tuple(found)))


def dimensions() -> st.SearchStrategy[Dimension]:
    return st.one_of(float_ranges(), int_ranges(), choices())


def spaces() -> st.SearchStrategy[dict[str, Dimension]]:
    return st.dictionaries(st.sampled_from("abcde"), dimensions(), min_size=1, max_size=4)
