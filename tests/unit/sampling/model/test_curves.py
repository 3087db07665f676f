import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.sampling.model.curves import Chain, Curves, decision_epochs

REFERENCE: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("curves.json").read_text()
)
"""Curves, and what another implementation of the same chain made of them."""
reference = pytest.mark.parametrize("known", REFERENCE, ids=range(len(REFERENCE)))


def curves(values: list[list[float]], reached: list[int], width: int = 0) -> Curves:
    return Curves(np.array(values), np.array(reached), np.full((len(values), width), 0.5))


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (52, (3, 4, 5, 7, 9, 12, 16, 21, 28, 37, 52)),
        (20, (2, 3, 4, 5, 7, 9, 12, 16, 20)),
        (6, (1, 2, 3, 4, 5, 6)),
        (2, (1, 2)),
        (1, (1,)),
    ],
)
def test_decisions_come_at_a_growing_distance(epochs: int, expected: tuple[int, ...]):
    assert decision_epochs(epochs) == expected


@given(st.integers(1, 100_000))
def test_decision_epochs_rise_to_the_end_and_are_few(epochs: int):
    found = decision_epochs(epochs)
    assert list(found) == sorted(set(found))
    assert found[-1] == epochs
    assert len(found) <= 16
    assert min(found) >= epochs / 18


def test_no_decision_comes_just_before_the_end():
    # The next one would be 37 of 39, which saves too little.
    assert decision_epochs(39)[-2:] == (28, 39)


@reference
def test_the_chain_is_the_references(known: dict[str, Any]):
    given = Curves(*(np.array(known[name]) for name in ("values", "reached", "features")))
    chain = Chain.fit(given)
    assert chain.coefficients == pytest.approx(np.array(known["coefficients"]), abs=1e-9)
    assert chain.variances == pytest.approx(np.array(known["variances"]), abs=1e-9)
    mean, variance = chain.ends(given)
    assert mean == pytest.approx(known["mean"], abs=1e-9)
    assert variance == pytest.approx(known["variance"], abs=1e-9)


def test_without_curves_each_difference_is_expected_to_be_three_quarters_of_the_one_before():
    none = Curves(np.zeros((0, 4)), np.zeros(0, np.intp), np.zeros((0, 0)))
    now = curves([[0.0, 0.4, 0.0, 0.0]], [1])
    mean, _ = Chain.fit(none).ends(now)
    assert mean == pytest.approx([0.4 + 0.4 * 0.75 + 0.4 * 0.75**2])


def test_the_chain_learns_how_curves_go_on():
    rng = np.random.default_rng(1)
    start, rise = rng.uniform(-1, 1, 200), rng.uniform(0, 0.2, 200)
    # Each next difference is half of the one before.
    values = np.cumsum([start, rise, rise / 2, rise / 4], axis=0).T
    known = Curves(values, np.full(200, 3), np.zeros((200, 0)))
    mean, variance = Chain.fit(known).ends(curves([[0.0, 0.1, 0, 0]], [1]))
    assert mean == pytest.approx([0.175], abs=0.005)
    assert variance[0] < 0.01


def test_what_a_configuration_adds_to_its_curve_is_learned():
    rng = np.random.default_rng(2)
    features = rng.random((200, 2))
    start = rng.uniform(-1, 1, 200)
    values = np.stack([start, start + 0.3 * features[:, 0]], axis=1)
    chain = Chain.fit(Curves(values, np.ones(200, np.intp), features))
    now = Curves(np.zeros((2, 2)), np.zeros(2, np.intp), np.array([[0.1, 0.5], [0.9, 0.5]]))
    mean, _ = chain.ends(now)
    assert mean == pytest.approx([0.03, 0.27], abs=0.02)


def test_stopping_the_worse_half_does_not_raise_what_the_others_are_expected_to_end_with():
    rng = np.random.default_rng(3)
    start = rng.normal(0, 0.5, 400)
    values = np.stack([start, start + 0.1 + rng.normal(0, 0.1, 400)], axis=1)
    values = np.maximum.accumulate(values, axis=1)
    everyone = Chain.fit(Curves(values, np.ones(400, np.intp), np.zeros((400, 0))))
    stopped = Curves(values, (start > 0).astype(np.intp), np.zeros((400, 0)))
    now = curves([[0.5, 0.0]], [0])
    assert Chain.fit(stopped).ends(now)[0] == pytest.approx(everyone.ends(now)[0], abs=0.02)


def test_a_curve_never_ends_below_where_it_is_nor_far_above_the_best():
    falling = Chain(np.array([[-5.0, 1, 0, 0], [0, 1, 0, 0]]), np.array([1.0, 0.0]))
    rising = Chain(np.array([[5.0, 1, 0, 0], [0, 1, 0, 0]]), np.array([1.0, 0.0]))
    now = curves([[0.5, 0.0], [2.0, 0.0]], [0, 0])
    assert falling.ends(now)[0] == pytest.approx([0.5, 2.0])
    assert rising.ends(now)[0] == pytest.approx([1.6, 2.0])


def test_a_trial_that_has_ended_is_certain_and_one_that_has_not_begun_is_not():
    chain = Chain.fit(curves([[0.1, 0.2], [0.0, 0.5]], [1, 1]))
    mean, variance = chain.ends(curves([[0.1, 0.3], [0.0, 0.0]], [1, -1]))
    assert mean.tolist() == [0.3, 0.0]
    assert variance.tolist() == [1e-6, 0.1]


def test_what_lies_beyond_the_last_decision_epoch_is_not_read():
    whole = curves([[0.0, 0.3, 0.5], [0.1, 0.2, 0.9], [0.0, 0.1, 0.7]], [2, 1, 0])
    cut = whole._replace(values=whole.values.copy())
    cut.values[1, 2] = cut.values[2, 1:] = np.nan
    for one, other in zip(Chain.fit(whole).ends(whole), Chain.fit(cut).ends(cut), strict=True):
        assert one.tolist() == other.tolist()
