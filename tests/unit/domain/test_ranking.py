import math
from functools import partial

from service.domain import ranking
from service.domain.facts import TrialFacts

best = partial(ranking.best, direction="maximize")


def _completed(number: int, value: float | None) -> TrialFacts:
    return TrialFacts(number, "completed", {}, (), value)


def test_the_best_is_the_completed_trial_of_the_highest_value():
    assert best([_completed(0, 0.5), _completed(1, 0.9), _completed(2, 0.7)]) == _completed(
        1, 0.9
    )


def test_among_equals_the_lowest_number_is_best_in_whatever_order_they_come():
    assert best([_completed(4, 0.9), _completed(2, 0.9), _completed(3, 0.9)]) == _completed(
        2, 0.9
    )


def test_only_completed_trials_of_a_finite_value_can_be_best():
    others = [
        TrialFacts(0, "pruned", {}, (), 0.99),
        TrialFacts(1, "running", {}, (), 0.99),
        _completed(2, None),
        _completed(3, math.nan),
        _completed(4, math.inf),
    ]
    assert best([*others, _completed(5, 0.1)]) == _completed(5, 0.1)
    assert best(others) is None
    assert best([]) is None


def test_where_less_is_better_the_best_has_the_lowest_value_and_of_equals_the_lowest_number():
    found = [_completed(0, 0.9), _completed(2, 0.1), _completed(1, 0.1)]
    assert ranking.best(found, "minimize") == found[2]
