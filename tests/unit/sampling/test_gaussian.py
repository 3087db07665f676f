"""The sampler `gp`: what it proposes over trials that it is told of."""

import math
import random
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service.domain.facts import TrialFacts
from service.sampling.gaussian import FEWEST, GaussianSampler
from service.sampling.model.finals import LastValues
from service.sampling.prior import halton
from tests.benchmarks.search_sides import FUNCTIONS, Ours
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, Scalar

LINE: dict[str, Dimension] = {"x": FloatRange(kind="float", low=0.0, high=1.0)}
SQUARE: dict[str, Dimension] = {
    name: FloatRange(kind="float", low=0.0, high=1.0) for name in ("x", "y")
}
CELLS: dict[str, Dimension] = {
    "n": IntRange(kind="int", low=1, high=4),
    "kind": Choices(kind="choices", choices=("a", "b", "c")),
}
Point = Mapping[str, Scalar]


def _sampler(
    space: Mapping[str, Dimension] = LINE,
    direction: Direction = "maximize",
    prior_strength: float = 0.0,
) -> GaussianSampler:
    return GaussianSampler(space, direction, prior_strength)


def _even(space: Mapping[str, Dimension], count: int) -> list[dict[str, float]]:
    """Points of real dimensions from 0 to 1 that lie apart."""
    return [halton(space, 0, number) for number in range(count)]


def _completed(number: int, point: Point, value: float) -> TrialFacts:
    return TrialFacts(number, "completed", point, ((0, value),), value)


def _number(value: Scalar) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _peak(point: Point) -> float:
    return -sum((_number(x) - 0.3) ** 2 for x in point.values())


def _told(count: int, value: Callable[[Point], float] = _peak, **given: Any) -> GaussianSampler:
    sampler = _sampler(**given)
    points = _even(given.get("space", LINE), count)
    sampler.hear([_completed(n, point, value(point)) for n, point in enumerate(points)])
    return sampler


def _proposed(
    sampler: GaussianSampler, seed: int = 0, in_flight: tuple[Point, ...] = ()
) -> dict[str, Scalar]:
    found = sampler.propose(in_flight, seed)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_peak_of_a_parabola(seed: int):
    sampler, found = _told(FEWEST), list[Point]()
    for number in range(FEWEST, 15):
        found.append(_proposed(sampler, 100 * seed + number))
        sampler.hear([_completed(number, found[-1], _peak(found[-1]))])
    best = max(found, key=_peak)
    assert _number(best["x"]) == pytest.approx(0.3, abs=0.01)


def test_it_beats_chance_and_tpe_on_hartmann6():
    hartmann6 = FUNCTIONS[0]

    def regret(sampler: str, seed: int) -> float:
        side, best = Ours(hartmann6, seed, sampler=sampler), -math.inf
        for _ in range(50):
            number, point = side.ask()
            side.tell(number, value := hartmann6.value(point))
            best = max(best, value)
        return hartmann6.optimum - best

    gp, tpe, chance = (
        statistics.median(regret(sampler, seed) for seed in range(5))
        for sampler in ("gp", "tpe", "random")
    )
    assert gp < 0.5 * tpe
    assert gp < 0.2 * chance


def test_less_of_the_negative_is_more():
    more = _told(12, space=SQUARE)
    less = _told(12, lambda point: -_peak(point), space=SQUARE, direction="minimize")
    assert _proposed(more) == _proposed(less)


def test_the_unit_of_the_values_does_not_matter():
    plain = _told(12, space=SQUARE)
    other = _told(12, lambda point: 1000 * _peak(point) + 7, space=SQUARE)
    one, same = _proposed(plain), _proposed(other)
    assert {name: pytest.approx(value, abs=1e-6) for name, value in one.items()} == same


def test_the_same_trials_in_another_order_give_the_same_proposal():
    chance = random.Random(1)
    trials = [_completed(n, one, chance.random()) for n, one in enumerate(_even(SQUARE, 24))]
    at_once, one_by_one = _sampler(SQUARE), _sampler(SQUARE)
    at_once.hear(trials)
    for trial in reversed(trials):
        one_by_one.hear([TrialFacts(trial.number, "running", trial.hyperparameters)])
        one_by_one.propose((), trial.number)
        one_by_one.hear([trial])
        one_by_one.propose((), trial.number)
    for seed in range(5):
        assert _proposed(one_by_one, seed) == _proposed(at_once, seed)


def test_another_seed_gives_another_proposal():
    sampler = _told(12, space=SQUARE)
    assert _proposed(sampler, 0) == _proposed(sampler, 0) != _proposed(sampler, 1)


def test_it_waits_until_a_few_have_ended_with_a_value():
    sampler = _sampler()
    values = [(0.1, 0.2), (0.5, 0.7), (0.9, 0.1)]
    sampler.hear([_completed(n, {"x": x}, value) for n, (x, value) in enumerate(values)])
    sampler.hear([TrialFacts(3, "failed", {"x": 0.6}, error_kind="oom")])
    sampler.hear([TrialFacts(4, "running", {"x": 0.3}, ((0, 0.5),))])
    assert sampler.propose((), 0) is None
    sampler.hear([TrialFacts(5, "pruned", {"x": 0.3}, ((0, 0.5),))])
    assert sampler.propose((), 0) is not None


def test_trials_of_which_none_completed_will_do():
    sampler = _sampler()
    points = _even(LINE, 8)
    sampler.hear(
        [TrialFacts(n, "pruned", one, ((0, _peak(one)),)) for n, one in enumerate(points)]
    )
    assert 0 <= _number(_proposed(sampler)["x"]) <= 1


def test_how_bad_the_bad_ones_are_says_nothing():
    def valley(worst: float) -> Callable[[Point], float]:
        return lambda point: worst if _number(point["x"]) > 0.7 else _peak(point)

    mild, wild = _told(15, valley(-5.0)), _told(15, valley(-1e30))
    for seed in range(5):
        assert _proposed(mild, seed) == _proposed(wild, seed)


def test_the_best_of_a_long_history_are_not_forgotten():
    sampler = _told(30)
    poor = [{"x": 0.6 + 0.4 * share["x"]} for share in _even(LINE, 270)]
    sampler.hear([_completed(30 + n, point, _peak(point)) for n, point in enumerate(poor)])
    found = [_number(_proposed(sampler, seed)["x"]) for seed in range(10)]
    assert all(abs(x - 0.3) < 0.1 for x in found)


def test_the_newest_of_a_long_history_are_not_forgotten_for_the_best():
    sampler = _told(300, lambda point: -abs(_number(point["x"]) - 0.3))
    flat = [{"x": 0.29 + n / 1000} for n in range(20)]
    sampler.hear([_completed(300 + n, point, -1.0) for n, point in enumerate(flat)])
    found = [_number(_proposed(sampler, seed)["x"]) for seed in range(10)]
    assert all(abs(x - 0.3) > 0.002 for x in found)


class TestInFlight:
    """Proposals that are not stored yet, and trials that run, are assumed to end with what is predicted of them."""

    def test_where_one_is_tried_already_the_next_one_is_another(self):
        def waves(point: Point) -> float:
            return math.sin(7 * _number(point["x"])) * math.cos(9 * _number(point["y"]))

        sampler, apart = _told(10, waves, space=SQUARE), list[float]()
        for seed in range(10):
            first = _proposed(sampler, seed)
            assert _proposed(sampler, seed) == first
            apart.append(_distance(first, _proposed(sampler, seed, (first,))))
        assert statistics.median(apart) > 0.1

    def test_what_is_hoped_of_it_already_is_to_be_improved_on(self):
        sampler = _sampler()
        rising = [{"x": n / 10} for n in range(7)]
        sampler.hear([_completed(n, point, point["x"]) for n, point in enumerate(rising)])
        alone = [_number(_proposed(sampler, seed)["x"]) for seed in range(5)]
        beside = [_number(_proposed(sampler, seed, ({"x": 0.9},))["x"]) for seed in range(5)]
        assert all(x < 0.96 for x in alone)
        assert all(x > 0.96 for x in beside)

    def test_a_trial_that_runs_counts_like_a_proposal_in_flight(self):
        points = [_proposed(_told(8, space=SQUARE), seed) for seed in range(4)]
        flying = _proposed(_told(8, space=SQUARE), 9, tuple(points))
        sampler = _told(8, space=SQUARE)
        sampler.hear([TrialFacts(8 + n, "running", point) for n, point in enumerate(points)])
        running = _proposed(sampler, 9)
        assert {name: pytest.approx(value) for name, value in flying.items()} == running


def _distance(one: Point, other: Point) -> float:
    return math.dist(*([_number(x) for x in point.values()] for point in (one, other)))


def test_where_noise_is_known_the_mark_is_not_the_luckiest_value():
    def mark(rows: int | None) -> tuple[float, float]:
        sampler = GaussianSampler(LINE, "maximize", 0.0, LastValues(1.0, of_shares=True))
        lucky = [0.8 + 0.1 * (n == 7) for n in range(16)]
        points = _even(LINE, 16)
        sampler.hear([_completed(n, points[n], lucky[n]) for n in range(16)])
        sampler.measured_on(rows)
        outlook = sampler.look(())
        assert outlook is not None
        return outlook.best, float(outlook.seen.max())

    sure, luckiest = mark(None)
    assert sure == luckiest
    assert mark(20)[0] < 0.5 * luckiest


class TestPruned:
    """A trial that was cut short has an early value, which is an uncertain guess at what it would have come to."""

    def test_a_poor_early_value_closes_no_region_as_a_poor_final_one_does(self):
        def mean_distance(state: Any) -> float:
            sampler = _told(6)
            value = None if state == "pruned" else -0.5
            near = [
                TrialFacts(6 + n, state, {"x": 0.3 + 0.01 * n}, ((0, -0.5),), value)
                for n in (-2, 0, 2)
            ]
            sampler.hear(near)
            found = [_number(_proposed(sampler, seed)["x"]) for seed in range(10)]
            return statistics.fmean(abs(x - 0.3) for x in found)

        assert mean_distance("pruned") < mean_distance("completed")


class TestInfeasible:
    """More is better up to 0.6, and what lies beyond cannot be trained."""

    def _told(self, kind: Any) -> GaussianSampler:
        sampler = _sampler()
        for n, point in enumerate(_even(LINE, 24)):
            trial = (
                _completed(n, point, point["x"])
                if point["x"] < 0.6
                else TrialFacts(n, "failed", point, error_kind=kind)
            )
            sampler.hear([trial])
        return sampler

    def test_what_cannot_be_trained_is_not_proposed_however_much_it_promises(self):
        found = [_number(_proposed(self._told("diverged"), seed)["x"]) for seed in range(10)]
        assert all(0.4 < x < 0.66 for x in found)

    def test_what_failed_for_another_reason_is(self):
        found = [_number(_proposed(self._told("crashed"), seed)["x"]) for seed in range(10)]
        assert all(x > 0.66 for x in found)

    def test_it_has_no_part_in_the_unit_of_the_values(self):
        plain, beside = _told(12), _told(12)
        beside.hear(
            [
                TrialFacts(12 + n, "failed", {"x": 0.99 + n / 1000}, ((0, -1e9),), None, "oom")
                for n in range(9)
            ]
        )
        assert _proposed(plain) == _proposed(beside)


class TestDiscrete:
    def test_no_configuration_is_proposed_twice_while_others_are_left(self):
        sampler, found = _sampler(CELLS), list[str]()
        for number in range(12):
            point = sampler.propose((), number) or {"n": 1 + number, "kind": "a"}
            found.append(str(sorted(point.items())))
            sampler.hear([_completed(number, point, _number(point["n"]))])
        assert len(set(found)) == 12
        assert _proposed(sampler)["n"] in (1, 2, 3, 4)

    def test_proposals_in_flight_count_as_tried(self):
        sampler = _sampler(CELLS)
        points: list[Point] = [{"n": n, "kind": "a"} for n in (1, 2, 3, 4)]
        sampler.hear([_completed(n, one, n / 10) for n, one in enumerate(points)])
        flying = list[Point]()
        for seed in range(8):
            flying.append(_proposed(sampler, seed, tuple(flying)))
        assert len({str(one) for one in [*points, *flying]}) == 12

    def test_it_finds_the_best_of_many_choices(self):
        many: dict[str, Dimension] = {
            name: Choices(kind="choices", choices=tuple("abcde")) for name in "pqrstu"
        }
        right = dict(zip("pqrstu", "edcbae", strict=True))

        def value(point: Point) -> float:
            return sum(point[name] == right[name] for name in right)

        sampler, best = _sampler(many), 0.0
        for number in range(70):
            first = {name: "abcde"[(number + n) % 5] for n, name in enumerate("pqrstu")}
            point = sampler.propose((), number) or first
            best = max(best, value(point))
            sampler.hear([_completed(number, point, value(point))])
        assert best == 6

    def test_a_space_that_leaves_no_choice_gets_its_only_values(self):
        space: dict[str, Dimension] = {
            "n": IntRange(kind="int", low=2, high=2),
            "kind": Choices(kind="choices", choices=("only",)),
        }
        sampler, only = _sampler(space), {"n": 2, "kind": "only"}
        sampler.hear([_completed(n, only, 0.5) for n in range(FEWEST)])
        assert _proposed(sampler) == only


class TestPrior:
    """A normal prior around 0.8; the values say nothing, or that the best lies at 0.3."""

    SPACE: Mapping[str, Dimension] = {
        "x": FloatRange(kind="float", low=0.0, high=1.0, prior=0.8, prior_spread=0.05)
    }

    def _share_near(self, strength: float, trials: int) -> float:
        sampler = _told(
            trials,
            lambda point: math.sin(50 * _number(point["x"])),
            space=self.SPACE,
            prior_strength=strength,
        )
        found = [_number(_proposed(sampler, seed)["x"]) for seed in range(20)]
        return sum(abs(x - 0.8) < 0.1 for x in found) / 20

    def test_proposals_are_drawn_to_it_by_its_strength(self):
        assert self._share_near(100.0, 8) == 1.0
        assert self._share_near(0.0, 8) < 0.5

    @pytest.mark.parametrize("seed", range(3))
    def test_it_closes_no_region(self, seed: int):
        sampler = _told(FEWEST, space=self.SPACE, prior_strength=5.0)
        for number in range(FEWEST, 25):
            point = _proposed(sampler, 100 * seed + number)
            sampler.hear([_completed(number, point, _peak(point))])
        assert _number(_proposed(sampler, seed)["x"]) == pytest.approx(0.3, abs=0.03)
