"""Which epoch of a training is kept, and what the training is worth."""

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pictures import tiny_columns, tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.data import TaskData, with_validation
from worker.training.loop import choice
from worker.training.loop.choice import EpochRule, averaged_epochs
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import Progress

LONG = EpochRule(epochs=100, averaged=3, direction="maximize")
PATIENT = replace(LONG, patience=2)


def _progress(rule: EpochRule, values: list[float]) -> Progress:
    progress = Progress()
    for value in values:
        progress = rule.after(progress, value)
    return progress


@pytest.mark.parametrize(("rows", "averaged"), [(1, 3), (249, 3), (250, 1), (10_000, 1)])
def test_three_validations_of_few_rows_are_averaged_and_one_of_many_is_enough(
    rows: int, averaged: int
) -> None:
    assert averaged_epochs(rows) == averaged
    data = tiny_data(validation=rows)
    assert choice.rule_of(data, Recipe()).averaged == averaged


def test_the_last_epoch_is_kept_and_its_training_worth_the_mean_of_the_last_three() -> None:
    progress = _progress(LONG, [0.1, 0.9, 0.5, 0.25, 0.75])
    assert (progress.epochs, progress.kept_epoch, progress.value) == (5, 4, 0.5)


def test_a_training_of_fewer_epochs_is_worth_the_mean_of_those() -> None:
    assert [_progress(LONG, [0.25, 0.75][:count]).value for count in (1, 2)] == [0.25, 0.5]


def test_where_one_validation_is_enough_the_training_is_worth_its_last() -> None:
    progress = _progress(replace(LONG, averaged=1), [0.1, 0.9, 0.3])
    assert (progress.kept_epoch, progress.value) == (2, 0.3)


def test_early_stopping_keeps_the_epoch_that_it_holds_best_with_the_mean_up_to_there() -> None:
    progress = _progress(PATIENT, [0.5, 0.25, 0.75, 0.7])
    assert (progress.kept_epoch, progress.value, progress.stale) == (2, 0.5, 1)
    assert not PATIENT.ends(progress)
    assert PATIENT.ends(PATIENT.after(progress, 0.75))


def test_epochs_without_a_gain_count_in_the_mean_of_the_next_that_is_kept() -> None:
    assert _progress(PATIENT, [0.5, 0.4, 0.9]).value == pytest.approx(0.6)


def test_where_less_is_better_the_lowest_value_raises_the_bar() -> None:
    falling = replace(PATIENT, direction="minimize")
    progress = _progress(falling, [2.0, 1.0, 1.5])
    assert (progress.kept_epoch, progress.bar, progress.stale) == (1, 1.0, 1)


def test_early_stopping_counts_only_gains_above_the_minimum() -> None:
    demanding = replace(PATIENT, patience=3, min_gain=0.1)
    progress = _progress(demanding, [0.50, 0.55, 0.58])
    assert (progress.kept_epoch, progress.stale) == (0, 2)
    progress = demanding.after(progress, 0.65)
    assert (progress.kept_epoch, progress.stale) == (3, 0)


def test_without_patience_nothing_ends_before_the_last_epoch() -> None:
    progress = _progress(LONG, [0.9] + [0.1] * 98)
    assert not LONG.ends(progress)
    assert LONG.ends(LONG.after(progress, 0.1))


def test_the_adaptation_weight_is_that_of_the_epoch_that_is_kept() -> None:
    progress = PATIENT.after(Progress(), 0.5, adaptation_weight=0.25)
    assert PATIENT.after(progress, 0.4, adaptation_weight=0.75).adaptation_weight == 0.25
    assert LONG.after(progress, 0.4, adaptation_weight=0.75).adaptation_weight == 0.75


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.integers(0, 5),
    st.sampled_from([1, 3]),
)
def test_the_worth_is_the_mean_of_the_values_up_to_the_kept_epoch(
    values: list[float], patience: int, averaged: int
) -> None:
    rule = replace(LONG, patience=patience, averaged=averaged)
    progress = _progress(rule, values)
    kept = progress.kept_epoch
    assert kept == (values.index(max(values)) if patience else len(values) - 1)
    assert progress.value == fmean(values[max(0, kept - averaged + 1) : kept + 1])


def test_a_training_without_a_validation_split_never_ends_early() -> None:
    impatient = Recipe(epochs=9, early_stopping_patience=1)
    rule = choice.rule_of(with_validation(tiny_data()), impatient, epochs=4)
    assert (rule.epochs, rule.patience, rule.averaged) == (4, 0, 1)
    assert choice.rule_of(tiny_data(), impatient).patience == 1


def _results(data: TaskData, recipe: Recipe) -> list[EpochResult]:
    return list(fit(TrainingRequest(tiny_backbone(data), data, recipe, seed=0, device=CPU)))


@pytest.mark.parametrize("patience", [0, 3])
def test_each_result_tells_what_the_training_would_be_worth_if_it_ended_there(
    patience: int,
) -> None:
    recipe = Recipe(
        epochs=10, batch_size=8, learning_rate=1e-2, early_stopping_patience=patience
    )
    results = _results(tiny_data(), recipe)
    values = [result.value for result in results]
    for epoch, result in enumerate(results):
        seen = values[: epoch + 1]
        kept = seen.index(max(seen)) if patience else epoch
        assert result.kept == (kept == epoch)
        assert result.trial_value == fmean(seen[max(0, kept - 2) : kept + 1])


def test_the_worth_of_an_error_is_the_mean_of_the_last_ones_and_not_the_least() -> None:
    recipe = Recipe(epochs=8, batch_size=8, learning_rate=0.05)
    results = _results(tiny_columns("regression"), recipe)
    assert results[-1].value == results[-1].metrics["rmse"]
    assert results[-1].trial_value == fmean(result.value for result in results[-3:])


def test_the_metrics_of_the_kept_epoch_stand_and_the_seconds_of_all_add_up() -> None:
    progress = Progress()
    for loss, value in ((0.9, 0.5), (0.2, 0.75), (0.1, 0.7)):
        progress = PATIENT.after(progress, value, metrics={"loss": loss}, seconds=2.0)
    assert (progress.kept_epoch, progress.kept_metrics) == (1, {"loss": 0.2})
    assert progress.seconds == 6.0
