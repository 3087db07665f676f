"""What guarded freeze-thaw does with studies whose curves are known."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.sampling.model.cube import Cube
from service.sampling.model.curves import decision_epochs
from service.sampling.model.expected_improvement import log_expected_improvement
from service.sampling.model.prior_weights import PriorWeights
from service.sampling.scheduling import guard
from service.sampling.scheduling.board import Board
from service.sampling.scheduling.comparison import Belief, Question, options
from service.sampling.scheduling.forecast import Forecast
from service.sampling.scheduling.freeze_thaw import FIRST_TRIALS, FreezeThaw
from service.sampling.scheduling.scheduler import Asked, Begin, Choice, GoOn, Over, Stop, Wait
from tests.unit.sampling.ledger import document
from tests.unit.sampling.scheduling.studies import CurveOf, Replay, Values, facts
from trimtab.contract.reasons import Reason

EPOCHS = 20
GRID = decision_epochs(EPOCHS)
SPACE: dict[str, Any] = {
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9},
    "head_dropout": {"kind": "float", "low": 0.0, "high": 0.9},
}


def scheduler(
    space: dict[str, Any] = SPACE, *, wanted: int = 1, epochs: int = EPOCHS, **search: Any
) -> FreezeThaw:
    search.setdefault("objective", "accuracy")
    given = document(space, initial_trials=0, **search)
    given = given.model_copy(update={"fixed": {**given.fixed, "epochs": epochs}})
    return FreezeThaw.of(given, wanted=wanted)


def draw(number: int) -> Values:
    return dict(zip(sorted(SPACE), 0.9 * np.random.default_rng(number).random(2), strict=True))


def smooth(values: Values, number: int) -> Sequence[float]:
    """Curves that rise to a level by where the configuration lies."""
    x, y = float(values["momentum"] or 0), float(values["head_dropout"] or 0)
    level = 0.9 - (x - 0.3) ** 2 - (y - 0.6) ** 2
    rng = np.random.default_rng(number)
    noise = rng.normal(0, 0.005, EPOCHS)
    return [level * (1 - math.exp(-(n + 2) / 5)) + noise[n] for n in range(EPOCHS)]


def misleading(values: Values, number: int) -> Sequence[float]:
    """Curves whose first 15 epochs say the contrary of their ends."""
    whole = smooth(values, number)
    return [(0.9 - value) / 2 if n < 15 else value for n, value in enumerate(whole)]


def replay(
    curve_of: CurveOf = smooth,
    *,
    workers: int = 1,
    epochs: int = 400,
    budget: int = 10**6,
    **made: Any,
) -> Replay:
    return Replay(scheduler(**made), draw, curve_of, EPOCHS, budget).run(workers, epochs)


def asked(last: int | None = None, *, number: int = 8, **other: Any) -> Asked:
    return Asked(last, other.pop("may_begin", True), number, other.pop("in_flight", ()), 0)


def committed(study: Replay) -> int:
    """Return the epochs of trials that run to their end."""
    return study.spent([one for one in study.trials.values() if one.runs_until is None])


# The first trials


def test_the_first_trials_run_to_the_first_decision_and_are_the_samplers():
    study = replay(epochs=2 * FIRST_TRIALS)
    first = study.done()[:FIRST_TRIALS]
    assert all(isinstance(one, Begin) for one in first)
    assert [(one.runs_until, getattr(one, "values", 0)) for one in first] == [(2, None)] * 8
    assert first[2].reason
    assert first[2].reason.text == (
        "Trial 3 of the first 8, which all run to epoch 2 before any goes on."
    )


def test_all_trials_that_are_made_by_their_number_are_among_the_first():
    given = document(SPACE, initial_trials=12).model_copy(update={"starts": ()})
    found = FreezeThaw.of(given, wanted=1)
    found.learn(facts(n, draw(n), [0.1 * n] * 3, "paused", runs_until=2) for n in range(9))
    choice = found.decide(asked(number=11))
    assert isinstance(choice, Begin)
    assert choice.values is None
    assert choice.runs_until == decision_epochs(given.recipe({}).epochs)[0]


def test_a_trial_begins_where_none_has_come_to_a_decision_yet():
    found = scheduler()
    found.learn(facts(n, draw(n), (0.1,), runs_until=2) for n in range(8))
    choice = found.decide(asked())
    assert isinstance(choice, Begin)
    assert (choice.runs_until, choice.values) == (GRID[0], None)


# Decision epochs


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([smooth, misleading]), st.integers(1, 5), st.integers(50, 250))
def test_each_trial_is_decided_on_once_an_epoch_and_only_at_decision_epochs(
    curve_of: CurveOf, workers: int, epochs: int
):
    study = replay(curve_of, workers=workers, epochs=epochs)
    asked_for = [(last, at) for last, at, _ in study.decided if last is not None]
    assert len(set(asked_for)) == len(asked_for)
    assert {at for _, at in asked_for} <= set(GRID[:-1])


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([smooth, misleading]), st.integers(1, 5), st.integers(100, 400))
def test_half_of_all_epochs_go_to_committed_trials_but_for_one_on_each_worker(
    curve_of: CurveOf, workers: int, epochs: int
):
    study = replay(curve_of, workers=workers, epochs=epochs)
    later = study.spent() - FIRST_TRIALS * GRID[0]
    assert committed(study) >= guard.COMMITTED_SHARE * later - workers * EPOCHS


def test_between_decisions_a_trial_goes_on_to_the_next_one():
    found = scheduler()
    found.learn(facts(n, draw(n), (0.1, 0.2), runs_until=2) for n in range(8))
    found.learn([facts(3, draw(3), (0.1,) * 6, runs_until=5)])
    assert found.decide(asked(3)) == GoOn(3, 7)


def test_a_committed_trial_is_decided_on_at_each_decision_epoch_but_the_end():
    found = scheduler()
    assert [epochs for epochs in range(30) if found.decides_at(epochs)] == list(GRID[:-1])


def test_a_whole_trial_of_one_epoch_is_decided_on_nowhere():
    found = scheduler(epochs=1)
    assert not any(found.decides_at(epochs) for epochs in range(3))
    choice = found.decide(asked(number=0))
    assert isinstance(choice, Begin)
    assert choice.runs_until == 1


# Choosing


def known(*curves: tuple[Sequence[float], str], until: int | None = 2) -> FreezeThaw:
    """Return a scheduler that knows these trials, the first of which is in the middle of the space."""
    found = scheduler()
    found.learn(
        facts(
            n, {"momentum": 0.1 * n, "head_dropout": 0.05 * n}, curve, state, runs_until=until
        )
        for n, (curve, state) in enumerate(curves)
    )
    return found


def test_a_paused_trial_that_is_far_the_best_is_taken_up():
    others = [([0.2, 0.2, 0.2], "paused")] * 7
    choice = known(([0.5, 0.6, 0.7], "paused"), *others).decide(asked())
    assert isinstance(choice, GoOn)
    assert choice.number == 0


def test_a_trial_that_is_taken_up_for_its_gain_runs_to_the_next_decision():
    # Another runs to its end, which is more than half of all epochs.
    others = [([0.2, 0.2], "paused")] * 3
    found = known(([0.5] + [0.9] * 11, "paused"), *others)
    found.learn([facts(8, draw(8), [0.1] * 12, runs_until=None)])
    choice = found.decide(asked(number=9))
    assert isinstance(choice, GoOn)
    assert (choice.number, choice.runs_until) == (0, 16)


def test_the_trial_that_reports_goes_on_where_it_promises_most():
    others = [([0.2, 0.2, 0.2], "paused")] * 7
    found = known(([0.5, 0.6, 0.7], "running"), *others)
    choice = found.decide(asked(0))
    assert isinstance(choice, GoOn)
    assert choice.number == 0


def test_a_running_trial_is_not_taken_up():
    others = [([0.2, 0.2, 0.2], "paused")] * 7
    choice = known(([0.5, 0.6, 0.7], "running"), *others).decide(asked())
    assert not (isinstance(choice, GoOn) and choice.number == 0)


def ways(study: Replay) -> list[str]:
    """Return how each committed trial was chosen."""
    return [
        way(choice.reason)
        for choice in study.done()
        if choice.runs_until is None and choice.reason
    ]


def way(reason: Reason | None) -> str:
    """Return how a trial was chosen, by the words of its reason."""
    assert reason
    words = {"TPE": "tpe", "alone speak": "tested", "end better": "end", "": "gain"}
    return next(way for word, way in words.items() if word in reason.text)


def test_committed_trials_are_the_best_expected_and_tpes_or_tested_ones_in_turn():
    found = ways(replay(epochs=700))
    assert found[:4] == ["end", "tpe", "end", "tpe"]
    later = found[found.index("tested") :]
    assert "tpe" not in later
    # A trial that was let go and is taken up again is committed no more, so that a turn may come twice.
    assert later.count("end") >= 3
    assert later.count("tested") >= 3


def test_where_beginnings_mislead_all_further_trials_run_to_their_end():
    study = replay(misleading, epochs=900)
    done = study.of("completed")
    board = Board(Cube(document(SPACE).space), GRID, "maximize")
    board.learn(study.trials.values())
    assert guard.is_blind(guard.correlation(board))
    assert len(done) > 8
    last = study.done()[-20:]
    assert all(one.runs_until is None for one in last)
    begun = [one.reason.text for one in last if isinstance(one, Begin) and one.reason]
    assert "completed trials say little of their ends (rank correlation -" in begun[0]


def test_a_committed_trial_below_the_median_is_let_go_and_told_why():
    done = [([0.1] * 7 + [0.9 + 0.01 * n] * 13, "completed") for n in range(5)]
    found = known(*done, until=None)
    found.learn([facts(5, draw(5), [0.1] * 8 + [0.5], runs_until=None)])
    choice = found.decide(asked(5))
    assert choice != GoOn(5, None)
    reason = found.reason_to_pause(5)
    assert reason.text.startswith(
        "Its best value 0.5 is worse than 0.92, the median of 5 completed trials at epoch 9."
    )
    assert reason.epoch == 9


def test_a_committed_trial_at_the_median_goes_on():
    done = [([0.1] * 7 + [0.9 + 0.01 * n] * 13, "completed") for n in range(5)]
    found = known(*done, until=None)
    found.learn([facts(5, draw(5), [0.1] * 8 + [0.92], runs_until=None)])
    assert found.decide(asked(5)) == GoOn(5, None)


def test_a_value_that_is_not_finite_ends_the_trial_at_once():
    found = known(*[([0.2, 0.2], "paused")] * 8)
    found.learn([facts(3, draw(3), [0.2, None], runs_until=4)])
    choice = found.decide(asked(3))
    assert isinstance(choice, Stop)
    assert choice.reason.text == "Its value at epoch 2 is not a finite number."


def test_less_and_more_are_alike():
    def negative(values: Values, number: int) -> Sequence[float]:
        return [-value for value in smooth(values, number)]

    more = Replay(scheduler(objective="f1_macro"), draw, smooth).run(2, 250)
    less = Replay(scheduler(objective="loss"), draw, negative).run(2, 250)
    assert [plain(one) for one in more.decided] == [plain(one) for one in less.decided]


def plain(decided: tuple[int | None, int, Choice]) -> tuple[Any, ...]:
    last, at, choice = decided
    match choice:
        case Begin(runs_until=until, values=values):
            return last, at, until, values
        case GoOn(number=number, runs_until=until):
            return last, at, number, until
        case _:
            return last, at


def test_the_same_question_over_the_same_trials_gets_the_same_answer():
    one, other = replay(epochs=200), replay(epochs=200)
    assert one.decided == other.decided


@pytest.mark.parametrize("epochs", [120, 300, 480])
def test_another_process_keeps_to_the_guard_as_this_one_does(epochs: int):
    study = replay(epochs=epochs)
    other = scheduler()
    other.learn(reversed(study.trials.values()))
    question = Asked(None, True, len(study.trials), (), 1)
    both = [one.decide(question) for one in (study.scheduler, other)]
    found = [way(one.reason) for one in both if isinstance(one, Begin | GoOn)]
    assert found[0] == found[1]


# Configurations


def test_it_finds_the_better_region_with_a_fraction_of_the_epochs():
    study = replay(workers=4, epochs=600)
    best = max(study.of("completed"), key=lambda trial: trial.value or 0.0)
    assert smooth(best.hyperparameters, best.number)[-1] > 0.86
    assert study.spent() / EPOCHS < len(study.trials) * 0.5


def test_near_proposals_in_flight_less_is_to_be_found_out():
    board = Board(Cube(document(SPACE).space), GRID, "maximize")
    board.learn(facts(n, draw(n), [0.1 * n] * 3, "paused", runs_until=2) for n in range(6))
    at = {"momentum": 0.5, "head_dropout": 0.5}
    alone, beside = (
        options(board, Forecast(board), question(Asked(None, True, 8, flying, 0)), "gain")
        for flying in ((), [at])
    )
    assert alone
    assert beside
    # The configurations that are drawn evenly come first, and are the same for one seed.
    drawn = slice(len(alone.rows), len(alone.rows) + 100)
    assert (beside.deviation[drawn] < alone.deviation[drawn] + 1e-9).all()
    assert (beside.deviation[drawn] < 0.95 * alone.deviation[drawn]).any()


def question(given: Asked, belief: Belief | None = None) -> Question:
    return Question(given, None, None, np.random.default_rng(given.seed), belief)


PRIOR: dict[str, Any] = SPACE | {
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9, "prior": 0.8, "prior_spread": 0.02}
}


def test_priors_weigh_what_promises_most_and_fade_as_trials_end():
    board = Board(Cube(document(PRIOR).space), GRID, "maximize")
    board.learn(facts(n, draw(n), [0.1 * n] * 3, "paused", runs_until=2) for n in range(6))
    belief = Belief(PriorWeights(board.cube), 3.0)
    plain, weighed = (
        options(board, Forecast(board), question(Asked(None, True, 8, (), 0), given), "gain")
        for given in (None, belief)
    )
    assert plain
    assert weighed
    assert not plain.belief.any()
    points = np.concatenate([board.points[weighed.rows], weighed.points])
    # Half of the logarithm of the density: a weight of 3, and six trials that have ended.
    added = 0.5 * belief.weights.log_density(points)
    assert weighed.belief == pytest.approx(added)
    only = log_expected_improvement(weighed.mean, weighed.deviation, weighed.best)
    assert weighed.improvements() == pytest.approx(only + added)


def test_new_configurations_lie_where_a_strong_prior_says():
    found = scheduler(PRIOR, prior_strength=1000)
    found.learn(facts(n, draw(n), [0.2, 0.3], "paused", runs_until=2) for n in range(8))
    # So many epochs are owed to these that the next choice is what promises most.
    found.learn(facts(8 + n, draw(8 + n), [0.2, 0.3]) for n in range(2))
    choice = found.decide(asked(number=10))
    assert isinstance(choice, Begin)
    assert choice.values
    assert choice.values["momentum"] == pytest.approx(0.8, abs=0.03)


def test_a_failed_trial_is_not_taken_up():
    found = known(*[([0.2, 0.3], "paused")] * 7, ([0.9, 0.9], "failed"))
    for seed in range(5):
        choice = found.decide(Asked(None, False, 8, (), seed))
        assert isinstance(choice, GoOn)
        assert choice.number != 7


def test_the_region_where_trials_fail_is_avoided():
    study = replay(epochs=120)
    number = len(study.trials)
    rng = np.random.default_rng(0)
    failed = [
        {"momentum": 0.45 * rng.random(), "head_dropout": 0.9 * rng.random()} for _ in range(40)
    ]
    study.scheduler.learn(
        facts(number + n, values, (), "failed") for n, values in enumerate(failed)
    )
    found = [
        study.scheduler.decide(Asked(None, True, number + 40, (), seed)) for seed in range(8)
    ]
    new = [one.values["momentum"] for one in found if isinstance(one, Begin) and one.values]
    assert all(isinstance(one, float) and one > 0.3 for one in new)


def test_a_small_space_is_tried_without_repeating_a_cell():
    space: dict[str, Any] = {
        "optimizer": {"kind": "choices", "choices": ["sgd", "adam", "adamw"]},
        "frozen_stages": {"kind": "int", "low": 0, "high": 4},
    }
    board = Board(Cube(document(space).space), GRID, "maximize")
    cells = [{"optimizer": o, "frozen_stages": n} for o in ("sgd", "adam") for n in range(5)]
    board.learn(facts(n, cell, [0.5] * 20) for n, cell in enumerate(cells))
    found = options(board, Forecast(board), question(Asked(None, True, 10, (), 0)), "gain")
    assert found
    assert len(found.points)
    assert {board.cube.values(point)["optimizer"] for point in found.points} == {"adamw"}


def test_a_space_without_a_choice_is_the_samplers():
    found = scheduler({"momentum": {"kind": "float", "low": 0.5, "high": 0.5}})
    found.learn(
        facts(n, {"momentum": 0.5}, [0.2, 0.3], "paused", runs_until=2) for n in range(8)
    )
    for seed in range(4):
        choice = found.decide(Asked(None, True, 8 + seed, (), seed))
        assert isinstance(choice, Begin | GoOn)


# The end of the budget


def test_when_the_budget_is_spent_what_is_worth_it_goes_on_and_then_it_is_over():
    study = replay(epochs=5000, budget=20)
    assert len(study.trials) == 20
    assert isinstance(study.decided[-1][2], Over)
    done = study.of("completed")
    best = max(max(value or 0 for _, value in trial.curve) for trial in study.trials.values())
    assert any(max(value or 0 for _, value in trial.curve) == best for trial in done)
    assert study.spent() < 0.8 * 20 * EPOCHS
    assert len(study.of("paused")) > 3


@pytest.mark.parametrize("wanted", [1, 3, 10])
def test_as_many_complete_as_the_finish_wants(wanted: int):
    study = replay(epochs=5000, budget=12, wanted=wanted)
    assert isinstance(study.decided[-1][2], Over)
    assert len(study.of("completed")) >= wanted


def test_more_than_there_are_cannot_complete():
    study = replay(epochs=5000, budget=4, wanted=6)
    assert isinstance(study.decided[-1][2], Over)
    assert len(study.of("completed")) == 4


@pytest.mark.parametrize("until", [2, None])
def test_whoever_finds_nothing_to_do_waits_for_those_that_run(until: int | None):
    found = known(*[([0.2, 0.2], "running")] * 8, until=until)
    assert found.decide(asked(may_begin=False)) == Wait()


def test_a_trial_with_hardly_a_chance_is_paused_when_nothing_may_begin():
    done = [([0.5 + 0.01 * n] * 20, "completed") for n in range(3)]
    found = known(*done, ([0.95] * 20, "completed"), until=None)
    found.learn([facts(5, draw(5), [0.1] * 9, runs_until=9)])
    assert found.decide(asked(5, may_begin=False)) == Over()
    assert "below 5%" in found.reason_to_pause(5).text


# Reasons


def test_a_pause_tells_the_value_that_is_expected_with_its_interval():
    study = replay(workers=2, epochs=400)
    told = [reason.expected for _, reason in study.reasons if reason.expected]
    assert len(told) > 20
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in told)
    assert all(reason.epoch in GRID for _, reason in study.reasons)
    assert all(reason.rule == "freeze_thaw" for _, reason in study.reasons)


def test_most_intervals_hold_where_curves_would_have_ended():
    study = replay(workers=2, epochs=900)
    held: list[bool] = []
    for number, reason in study.reasons:
        if reason.expected:
            end = max(smooth(study.trials[number].hyperparameters, number))
            held.append(reason.expected.low <= end <= reason.expected.high)
    assert len(held) > 50
    assert sum(held) / len(held) > 0.8


def test_before_anything_is_expected_a_pause_says_so():
    study = replay(epochs=4)
    assert study.reasons[0][1].text == "Another trial begins first, to be compared with it."
    assert study.reasons[0][1].expected is None


def test_of_a_loss_the_expected_value_is_a_loss():
    def loss(values: Values, number: int) -> Sequence[float]:
        return [2 - value for value in smooth(values, number)]

    study = Replay(scheduler(objective="loss"), draw, loss).run(1, 200)
    told = [reason.expected for _, reason in study.reasons if reason.expected]
    assert told
    assert all(0.9 < one.value < 2.2 for one in told)
