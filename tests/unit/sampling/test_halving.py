"""Asynchronous successive halving and Hyperband: who goes on, from hand-worked ladders and from whole searches."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.facts import TrialFacts
from service.sampling.scheduling.asha import asha
from service.sampling.scheduling.halving import SuccessiveHalving
from service.sampling.scheduling.hyperband import hyperband, order, shares
from service.sampling.scheduling.ladder import rungs
from service.sampling.scheduling.scheduler import Begin, GoOn, Over, Stop, Wait
from tests.support.scheduled import Play, a_trial, asked
from trimtab.contract.metrics import Direction
from trimtab.contract.schedulers import AshaScheduler, HyperbandScheduler


def an_asha(
    *trials: TrialFacts,
    epochs: int = 9,
    direction: Direction = "maximize",
    wanted: int = 1,
    first_rung: int | None = 1,
    eta: int = 3,
) -> SuccessiveHalving:
    chosen = AshaScheduler(kind="asha", first_rung=first_rung, eta=eta)
    made = asha(chosen, epochs=epochs, direction=direction, wanted=wanted)
    made.learn(trials)
    return made


def a_hyperband(epochs: int = 9, wanted: int = 1, eta: int = 3) -> SuccessiveHalving:
    chosen = HyperbandScheduler(kind="hyperband", first_rung=1, eta=eta)
    return hyperband(chosen, epochs=epochs, direction="maximize", wanted=wanted)


@pytest.mark.parametrize(
    ("epochs", "first_rung", "eta", "expected"),
    [
        (9, 1, 3, (1, 3)),
        (10, 1, 3, (1, 3, 9)),
        (52, None, 3, (3, 9, 27)),
        (20, None, 3, (2, 6, 18)),
        (18, None, 4, (1, 4, 16)),
        (1, None, 3, ()),
        (4, 2, 2, (2,)),
    ],
)
def test_each_rung_is_eta_times_the_one_before_and_below_the_end(
    epochs: int, first_rung: int | None, eta: int, expected: tuple[int, ...]
) -> None:
    assert rungs(epochs, first_rung, eta) == expected


class TestAClaim:
    def test_it_begins_a_trial_until_the_first_rung_where_nobody_may_go_on(self):
        assert an_asha().decide(asked()) == Begin(1)
        two = an_asha(a_trial(0, 0.9), a_trial(1, 0.8))
        assert two.decide(asked()) == Begin(1)

    def test_the_best_third_of_a_rung_goes_on_to_the_next(self):
        study = an_asha(a_trial(0, 0.5), a_trial(1, 0.9), a_trial(2, 0.7))
        choice = study.decide(asked())
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (1, 3)
        assert choice.reason is not None
        assert (choice.reason.rule, choice.reason.epoch) == ("asha", 1)
        assert choice.reason.text == (
            "Place 1 of 3 at 1 epoch (best value 0.9); the best 1 go on to 3 epochs."
        )

    def test_who_has_gone_on_is_not_promoted_again_and_keeps_its_place(self):
        gone = a_trial(1, 0.9, state="running", runs_until=3)
        study = an_asha(a_trial(0, 0.5), gone, a_trial(2, 0.7))
        assert study.decide(asked()) == Begin(1)

    def test_less_is_better_where_the_objective_is_a_loss(self):
        trials = [a_trial(0, 0.5), a_trial(1, 0.9), a_trial(2, 0.7)]
        choice = an_asha(*trials, direction="minimize").decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 0

    def test_the_highest_rung_goes_first(self):
        low = [a_trial(number, 0.5 + number / 100) for number in range(6)]
        high = [a_trial(number, 0.1, 0.2, number / 10) for number in (7, 8, 9)]
        choice = an_asha(*low, *high).decide(asked())
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (9, None)

    def test_on_a_rung_a_trial_is_worth_its_best_value_until_there(self):
        # Trial 1 was best within its first epoch; what it came to later is of a later rung.
        later = a_trial(0, 0.1, 0.2, 0.99, state="running", runs_until=9)
        study = an_asha(later, a_trial(1, 0.5), a_trial(2, 0.4))
        choice = study.decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 1

    def test_of_equals_the_earlier_trial_goes_on(self):
        choice = an_asha(*(a_trial(number, 0.5) for number in (2, 0, 1))).decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 0

    @pytest.mark.parametrize("state", ["failed", "cancelled"])
    def test_a_trial_that_failed_counts_on_no_rung(self, state: str):
        failed = a_trial(2, 0.1, state=state, by_search=False)
        assert an_asha(a_trial(0, 0.5), a_trial(1, 0.9), failed).decide(asked()) == Begin(1)

    def test_a_trial_that_a_person_paused_is_not_taken_up(self):
        by_person = a_trial(1, 0.9, by_search=False)
        study = an_asha(a_trial(0, 0.5), by_person, a_trial(2, 0.7))
        assert study.decide(asked()) == Begin(1)

    def test_a_trial_that_is_about_to_pause_is_not_taken_up(self):
        leaving = a_trial(1, 0.9, state="running", runs_until=1, by_search=True)
        study = an_asha(a_trial(0, 0.5), leaving, a_trial(2, 0.7))
        assert study.decide(asked()) == Begin(1)

    def test_a_trial_without_a_finite_value_is_the_last_of_its_rung(self):
        study = an_asha(a_trial(0, None), a_trial(1, 0.1), a_trial(2, None))
        choice = study.decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 1


class TestTheEndOfTheBudget:
    def test_it_waits_for_those_that_run_and_may_be_paused(self):
        running = a_trial(1, state="running", runs_until=1, by_search=False)
        assert an_asha(a_trial(0, 0.5), running).decide(asked(may_begin=False)) == Wait()

    def test_then_the_best_of_the_highest_rung_is_run_to_its_end(self):
        study = an_asha(a_trial(0, 0.9), a_trial(1, 0.1, 0.2, 0.3))
        choice = study.decide(asked(may_begin=False))
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (1, None)

    def test_as_many_are_as_the_model_needs_and_at_the_same_time(self):
        to_the_end = a_trial(1, 0.1, 0.2, 0.3, state="running", runs_until=None)
        rest = [a_trial(2, 0.1, 0.2, 0.2)]
        one = an_asha(to_the_end, *rest, wanted=1)
        two = an_asha(to_the_end, *rest, wanted=2)
        assert one.decide(asked(may_begin=False)) == Wait()
        choice = two.decide(asked(may_begin=False))
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (2, None)

    def test_it_is_over_once_they_have_completed(self):
        study = an_asha(a_trial(0, 0.5), a_trial(1, *[0.6] * 9, state="completed"))
        assert study.decide(asked(may_begin=False)) == Over()

    def test_it_is_over_where_nothing_is_left(self):
        assert an_asha().decide(asked(may_begin=False)) == Over()


class TestAReport:
    def test_one_that_is_among_the_best_goes_on_without_a_pause(self):
        running = a_trial(2, 0.9, state="running", runs_until=1)
        study = an_asha(a_trial(0, 0.5), a_trial(1, 0.7), running)
        choice = study.decide(asked(2))
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (2, 3)

    def test_it_does_so_also_where_another_might_go_on_from_a_higher_rung(self):
        running = a_trial(0, 0.9, state="running", runs_until=1)
        high = [a_trial(number, 0.1, 0.2, number / 10) for number in (1, 2, 3)]
        study = an_asha(running, *high)
        choice = study.decide(asked(0))
        assert isinstance(choice, GoOn)
        assert choice.number == 0
        choice = study.decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 3

    def test_any_other_makes_way(self):
        running = a_trial(2, 0.6, state="running", runs_until=1)
        study = an_asha(a_trial(0, 0.5), a_trial(1, 0.7), running)
        choice = study.decide(asked(2))
        assert isinstance(choice, GoOn)
        assert choice.number == 1
        assert study.reason_to_pause(2).text == (
            "Place 2 of 3 at 1 epoch (best value 0.6); the best 1 go on, from 0.7 on."
        )

    def test_that_it_was_asked_for_is_forgotten(self):
        running = a_trial(2, 0.6, state="running", runs_until=1)
        study = an_asha(a_trial(0, 0.5), running)
        for _ in range(2):
            assert study.decide(asked(2)) == Begin(1)
            assert study.decide(asked(may_begin=False)) == Wait()
        study.learn([a_trial(2, 0.6)])
        study.learn([a_trial(3, 0.4)])
        choice = study.decide(asked())
        assert isinstance(choice, GoOn)
        assert choice.number == 2

    def test_the_last_one_of_a_spent_budget_goes_on_to_its_end(self):
        study = an_asha(a_trial(0, 0.5), a_trial(1, 0.6, state="running", runs_until=1))
        choice = study.decide(asked(1, may_begin=False))
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (1, None)

    def test_one_that_has_jumped_over_a_rung_is_judged_on_the_highest_that_it_reached(self):
        jumped = a_trial(2, 0.1, 0.2, 0.3, 0.4, 0.5, state="running", runs_until=1)
        others = [a_trial(number, 0.1, 0.1, 0.2) for number in (0, 1)]
        choice = an_asha(*others, jumped).decide(asked(2))
        assert isinstance(choice, GoOn)
        assert (choice.number, choice.runs_until) == (2, None)

    def test_a_value_that_is_not_finite_stops_it_at_once(self):
        study = an_asha(a_trial(0, 0.5, None, state="running", runs_until=3))
        choice = study.decide(asked(0))
        assert isinstance(choice, Stop)
        assert choice.reason.text == "Its last value is not finite."

    def test_one_below_the_first_rung_goes_on_to_it(self):
        study = an_asha(a_trial(0, 0.5, state="running", runs_until=1), first_rung=3)
        assert study.decide(asked(0)) == GoOn(0, 3)


# Whole searches


def _value(number: int, epochs: int) -> float:
    """A trial's value grows with its epochs; no two are equal."""
    return random.Random(number).random() + epochs / 1e6


@pytest.mark.parametrize("workers", [1, 4, 16])
@pytest.mark.parametrize("make", [an_asha, a_hyperband])
@pytest.mark.parametrize("wanted", [1, 3])
def test_a_search_spends_its_budget_exactly_trains_nothing_twice_and_completes_what_is_wanted(
    workers: int, make: Any, wanted: int
) -> None:
    play = Play(make(epochs=27, wanted=wanted), _value, 27, budget=40)
    play.run(workers)
    assert len(play.trials) == 40
    assert len(play.log) == len(set(play.log))
    completed = [trial for trial in play.trials.values() if trial.state == "completed"]
    assert len(completed) >= wanted
    assert all(trial.state in ("paused", "completed") for trial in play.trials.values())


@pytest.mark.parametrize("workers", [1, 4])
def test_the_best_of_many_is_completed_where_curves_do_not_cross(workers: int) -> None:
    play = Play(an_asha(epochs=27), _value, 27, budget=27)
    play.run(workers)
    assert play.counts()[0] == 27
    best = max(range(27), key=lambda number: _value(number, 1))
    assert play.trials[best].state == "completed"


def test_with_one_worker_a_third_of_each_rung_goes_on() -> None:
    # Values that fall with the number: whoever comes first is the best, and no later trial takes its place.
    play = Play(an_asha(epochs=27), lambda number, _: -float(number), 27, budget=27)
    play.run(1)
    assert [
        sum(len(t.curve) >= rung for t in play.trials.values()) for rung in (1, 3, 9, 27)
    ] == [
        27,
        9,
        3,
        1,
    ]


@given(st.integers(0, 5), st.integers(2, 5))
def test_hyperbands_shares_are_those_of_the_paper(top: int, eta: int) -> None:
    expected = [
        -(-(top + 1) * eta**s // (s + 1)) for s in range(top, -1, -1)
    ]  # ceil((s_max + 1) / (s + 1) * eta^s)
    assert list(shares(top, eta)) == expected


def test_the_shares_of_the_papers_table() -> None:
    """Table 1 of the paper: R = 81, eta = 3."""
    assert shares(4, 3) == (81, 34, 15, 8, 5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_each_ladder_gets_its_share_and_is_never_far_behind(given_shares: list[int]) -> None:
    turns, total = order(given_shares), sum(given_shares)
    assert Counter(turns) == Counter(dict(enumerate(given_shares)))
    for number in range(1, total + 1):
        counts = Counter(turns[:number])
        for ladder, share in enumerate(given_shares):
            assert abs(counts[ladder] - share * number / total) < len(given_shares)


def test_hyperbands_trials_begin_on_the_rung_of_their_ladder() -> None:
    turns = order(shares(2, 3))
    begun = [a_hyperband().decide(asked(next_number=number)) for number in range(len(turns))]
    assert begun == [Begin((1, 3, None)[ladder]) for ladder in turns]
    assert {one.runs_until for one in begun if isinstance(one, Begin)} == {1, 3, None}


def test_hyperbands_trials_are_held_against_those_of_their_own_ladder() -> None:
    turns = order(shares(2, 3))
    by_ladder = [[n for n in range(60) if turns[n % len(turns)] == one] for one in range(3)]
    study = a_hyperband()
    # Two on the first ladder, and one on the second at its first rung, 3: three in all, but of no one ladder.
    study.learn([a_trial(number, 0.5) for number in by_ladder[0][:2]])
    study.learn([a_trial(by_ladder[1][0], 0.1, 0.2, 0.9)])
    assert isinstance(study.decide(asked()), Begin)
    study.learn([a_trial(number, 0.1, 0.2, 0.3) for number in by_ladder[1][1:3]])
    choice = study.decide(asked())
    assert isinstance(choice, GoOn)
    assert (choice.number, choice.runs_until) == (by_ladder[1][0], None)
