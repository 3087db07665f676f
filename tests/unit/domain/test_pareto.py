"""Which trials are the best compromises of two objectives."""

from service.domain.pareto import front

VALUES = [(0.9, 30.0), (0.8, 40.0), (0.7, 10.0), (0.9, 35.0), (0.7, 10.0), (0.6, 10.0)]


def test_what_nothing_beats_in_both_stays_equals_included():
    assert front(VALUES, ("maximize", "minimize")) == [0, 2, 4]
    assert front([(-one, two) for one, two in VALUES], ("minimize", "minimize")) == [0, 2, 4]


def test_of_both_more_or_less_there_may_be_one_best():
    assert front(VALUES, ("maximize", "maximize")) == [3, 1]
    assert front([], ("maximize", "maximize")) == []
