import math
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.samplers._tpe.sampler import (
    _split_trials,  # pyright: ignore[reportPrivateUsage] -- what our cap must agree with
    default_gamma,
)
from optuna.study import create_study

from service.domain.facts import Changes, TrialFacts
from service.sampling.distributions import distributions
from service.sampling.history import BULK, History, good_share, role
from service.sampling.tpe import Shown
from trimtab.contract.metrics import Direction
from trimtab.contract.search_space import Dimension, FloatRange
from trimtab.contract.trials import FailureKind, TrialState

SPACE: dict[str, Dimension] = {"x": FloatRange(kind="float", low=0.0, high=1.0)}
VALUES = st.one_of(st.none(), st.sampled_from([0.1, 0.2]), st.floats(0, 1))
CURVES = st.dictionaries(st.integers(0, 4), VALUES, max_size=4).map(
    lambda found: tuple(sorted(found.items()))
)


@st.composite
def trials(draw: st.DrawFn) -> TrialFacts:
    state = draw(st.sampled_from(get_args(TrialState)))
    kinds: list[FailureKind] = ["oom", "diverged", "recipe_unfit", "crashed"]
    kind = draw(st.sampled_from(kinds)) if state == "failed" else None
    value = draw(VALUES) if state == "completed" else None
    return TrialFacts(
        draw(st.integers(0, 40)), state, {"x": draw(st.floats(0, 1))}, draw(CURVES), value, kind
    )


OLDEST_HAS_THE_LEAST = [
    TrialFacts(number, "completed", {"x": 0.5}, (), value, None)
    for number, value in enumerate((0.1, 0.2, 0.3))
]
BATCHES = st.lists(st.lists(trials(), max_size=5), max_size=6)


def _history(*batches: list[TrialFacts], direction: Direction = "maximize") -> History:
    history = History(direction)
    for end, batch in enumerate(batches):
        history.apply(Changes(tuple(batch), (1, end)))
    return history


def _latest(batches: list[list[TrialFacts]]) -> list[TrialFacts]:
    latest = {trial.number: trial for batch in batches for trial in batch}
    return [latest[number] for number in sorted(latest)]


@given(BATCHES)
def test_whatever_changed_in_whatever_order_the_indexes_are_those_of_a_fresh_scan(
    batches: list[list[TrialFacts]],
):
    history, latest = _history(*batches), _latest(batches)
    finished = [trial for trial in latest if role(trial) not in (None, "running")]
    running = [trial for trial in latest if role(trial) == "running"]
    done = [trial for trial in latest if role(trial) == "completed"]
    assert history.capped(None) == finished + running
    assert history.completed == len(done)
    assert history.next_number == max((trial.number + 1 for trial in latest), default=0)
    for step in range(6):
        at_step = [dict(trial.curve).get(step) for trial in done]
        assert history.values_at(step, None) == sorted(v for v in at_step if v is not None)


@given(BATCHES, st.integers(1, 5))
def test_a_history_read_in_one_bulk_equals_one_kept_up_to_date(
    batches: list[list[TrialFacts]], limit: int
):
    rest = [TrialFacts(100 + n, "completed", {"x": 0.5}, (), n / BULK) for n in range(BULK)]
    bulk, kept = _history(_latest(batches) + rest), _history(*batches, *([t] for t in rest))
    assert bulk.capped(None) == kept.capped(None)
    assert bulk.capped(limit) == kept.capped(limit)
    assert bulk.completed == kept.completed
    assert [bulk.values_at(step, None) for step in range(6)] == [
        kept.values_at(step, None) for step in range(6)
    ]


@given(
    st.lists(trials(), max_size=40, unique_by=lambda trial: trial.number),
    st.integers(1, 12),
    st.sampled_from(["maximize", "minimize"]),
)
@example(OLDEST_HAS_THE_LEAST, 1, "minimize")
def test_a_capped_history_keeps_all_that_tpe_takes_as_good_the_newest_and_all_that_run(
    found: list[TrialFacts], limit: int, direction: Direction
):
    history = _history(found, direction=direction)
    shown = history.capped(limit)
    everything = history.capped(None)
    running = [trial for trial in everything if role(trial) == "running"]
    finished = [trial for trial in everything if role(trial) != "running"]
    kept = [trial for trial in shown if role(trial) != "running"]
    views = Shown(distributions(SPACE)).show(finished)
    study = create_study(direction=direction)
    good, _ = _split_trials(study, views, min(good_share(limit), len(finished)))
    good_numbers = {trial.number for trial in good}
    assert shown == kept + running
    assert len(kept) == min(limit, len(finished))
    assert kept == sorted(kept, key=lambda trial: trial.number)
    assert good_numbers <= {trial.number for trial in kept}
    others = [trial for trial in finished if trial.number not in good_numbers]
    left = [trial for trial in kept if trial.number not in good_numbers]
    assert left == others[len(others) - len(left) :]


@given(
    st.lists(trials(), max_size=60, unique_by=lambda trial: trial.number),
    st.one_of(st.none(), st.integers(1, 12)),
    st.sampled_from(["maximize", "minimize"]),
)
@example(OLDEST_HAS_THE_LEAST, None, "minimize")
def test_a_split_is_optunas_of_what_is_shown(
    found: list[TrialFacts], limit: int | None, direction: Direction
):
    history = _history(found, direction=direction)
    shown = history.capped(limit)
    ended = sum(role(trial) != "running" for trial in shown)
    study = create_study(direction=direction)
    views = sorted(Shown(distributions(SPACE)).show(shown), key=lambda one: one.number)
    good, others = _split_trials(study, views, default_gamma(ended))
    split = history.split(limit)
    assert split.good.tolist() == [one.number for one in good]
    assert split.others.tolist() == [one.number for one in others]


def test_the_good_share_is_tpes():
    assert [good_share(n) for n in range(1000)] == [default_gamma(n) for n in range(1000)]


CONFIGURATION: tuple[FailureKind, ...] = ("oom", "diverged", "recipe_unfit")


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_a_failure_that_the_configuration_causes_is_infeasible_and_no_other_is_seen(
    kind: FailureKind,
):
    expected = "infeasible" if kind in CONFIGURATION else None
    assert role(TrialFacts(0, "failed", {}, error_kind=kind)) == expected
    assert role(TrialFacts(0, "cancelled", {}, error_kind=kind)) is None


@pytest.mark.parametrize("kind", CONFIGURATION)
def test_an_infeasible_trial_is_shown_as_such_without_its_curve(kind: FailureKind):
    failed = TrialFacts(0, "failed", {"x": 0.5}, ((0, 0.9),), error_kind=kind)
    (shown,) = Shown(distributions(SPACE)).show([failed])
    assert shown.state.name == "PRUNED"
    assert shown.intermediate_values == {}
    assert all(value > 0 for value in shown.constraints.values())
    assert shown.constraints


@given(BATCHES)
def test_a_history_knows_whether_nothing_but_infeasible_trials_have_ended(
    batches: list[list[TrialFacts]],
):
    roles = {role(trial) for trial in _latest(batches)} - {None, "running"}
    assert _history(*batches).has_only_infeasible == (roles == {"infeasible"})


def test_a_paused_trial_is_shown_as_pruned_with_its_curve():
    paused = TrialFacts(0, "paused", {"x": 0.5}, ((0, 0.9), (1, None)))
    (shown,) = Shown(distributions(SPACE)).show([paused])
    assert shown.state.name == "PRUNED"
    assert shown.intermediate_values[0] == 0.9
    assert math.isnan(shown.intermediate_values[1])


def test_a_queued_trial_is_shown_as_running():
    (shown,) = Shown(distributions(SPACE)).show([TrialFacts(0, "queued", {"x": 0.5})])
    assert shown.state.name == "RUNNING"


def test_a_trial_is_shown_anew_only_when_it_changed():
    shown = Shown(distributions(SPACE))
    running = TrialFacts(0, "running", {"x": 0.5})
    (first,) = shown.show([running])
    assert shown.show([running])[0] is first
    assert shown.show([TrialFacts(0, "completed", {"x": 0.5}, (), 0.7)])[0].value == 0.7


LONG, SHORT = 100, 5
CURVE_OF = {
    # The value tells the step: 0.0001 a step of a long trial, 0.1 a step of a short one.
    LONG: tuple((step, 0.0001 * (step + 1)) for step in range(LONG)),
    SHORT: tuple((step, 0.1 * (step + 1)) for step in range(SHORT)),
}


def of_epochs(number: int, epochs: int, state: TrialState = "completed") -> TrialFacts:
    return TrialFacts(number, state, {"epochs": epochs}, CURVE_OF[epochs], 0.5)


@pytest.mark.parametrize(
    ("step", "epochs", "long", "short"),
    [
        (0, SHORT, 20, 1),  # a fifth of each
        (0, LONG, 1, None),  # the short one has come to nothing by then
        (18, LONG, 19, None),
        (19, LONG, 20, 1),
        (38, LONG, 39, 1),
        (4, SHORT, 100, 5),
        (99, LONG, 100, 5),
        (1, 3, 66, 3),
        (0, 200, None, None),
    ],
)
def test_where_epochs_differ_values_are_found_at_equal_shares_of_them(
    step: int, epochs: int, long: int | None, short: int | None
):
    expected = [CURVE_OF[LONG][long - 1][1]] if long else []
    expected += [CURVE_OF[SHORT][short - 1][1]] if short else []
    trials = [of_epochs(0, LONG), of_epochs(1, SHORT), of_epochs(2, LONG, "pruned")]
    assert _history(trials).values_at(step, epochs) == expected
    assert _history(trials[::-1]).values_at(step, epochs) == expected


def test_where_all_trials_have_the_same_number_of_epochs_equal_shares_are_equal_steps():
    searched = [of_epochs(0, SHORT), of_epochs(1, SHORT)]
    fixed = [TrialFacts(n, "completed", {}, CURVE_OF[SHORT], 0.5) for n in range(2)]
    for step in range(SHORT + 1):
        expected = _history(fixed).values_at(step, None)
        assert _history(searched).values_at(step, SHORT) == expected
        assert expected == [value for at, value in CURVE_OF[SHORT] if at == step] * 2
