"""What a study hands over is chosen by validation values alone: the rule."""

import pytest

from trimtab.contract.final_report import CandidateKind
from trimtab.contract.metrics import Direction
from worker.training.final.choice import Choice, Lead, Measured, choose

WINNER = Measured("winner", 0.90, (7,))


def ensemble(value: float) -> Measured:
    return Measured("ensemble", value, (7, 3, 5))


def chosen(
    averaged: float | None = None,
    lead: Lead | None = None,
    *,
    probe: float | None = None,
    before: float | None = None,
    winner: Measured = WINNER,
    direction: Direction = "maximize",
) -> Choice:
    named: tuple[tuple[CandidateKind, float | None], ...] = (
        ("linear_probe", probe),
        ("before", before),
    )
    return choose(
        "accuracy",
        direction,
        winner,
        ensemble=None if averaged is None else ensemble(averaged),
        lead=lead,
        others=[Measured(kind, value) for kind, value in named if value is not None],
    )


def test_the_winner_is_handed_over_where_nothing_else_was_asked_for() -> None:
    found = chosen()
    assert found.measured == WINNER
    assert found.why == "Trial 7 is the best: accuracy 0.9 on the validation split."


@pytest.mark.parametrize(
    ("gain", "error", "kind"),
    [
        (-0.02, 0.01, "ensemble"),
        (0.0, 0.0, "ensemble"),
        (0.01, 0.01, "ensemble"),
        (0.011, 0.01, "winner"),
        (0.01, 0.0, "winner"),
    ],
)
def test_the_ensemble_that_was_asked_for_goes_first_unless_the_winner_is_better_by_more_than_chance(
    gain: float, error: float, kind: CandidateKind
) -> None:
    found = chosen(0.90 - gain, Lead(gain, error))
    assert found.measured.kind == kind
    assert "trials 7, 3, 5 was asked for" in found.why
    assert f"standard error of the difference ({error:.2g})" in found.why


@pytest.mark.parametrize(
    ("probe", "before", "kind"),
    [
        (0.90, 0.90, "winner"),
        (0.91, None, "linear_probe"),
        (0.91, 0.91, "linear_probe"),
        (0.91, 0.92, "before"),
        (0.89, 0.91, "before"),
    ],
)
def test_what_no_trial_has_trained_takes_over_where_it_is_strictly_better(
    probe: float | None, before: float | None, kind: CandidateKind
) -> None:
    assert chosen(probe=probe, before=before).measured.kind == kind


def test_a_probe_is_held_against_what_was_chosen_and_not_against_the_winner() -> None:
    lead = Lead(-0.05, 0.01)
    assert chosen(0.95, lead, probe=0.93).measured.kind == "ensemble"
    assert chosen(0.95, lead, probe=0.96).measured.kind == "linear_probe"


def test_less_is_better_where_the_objective_is_an_error() -> None:
    assert chosen(probe=0.8, direction="minimize").measured.kind == "linear_probe"
    assert chosen(probe=0.95, direction="minimize").measured.kind == "winner"


def test_the_reasons_name_each_step_with_its_numbers() -> None:
    found = chosen(0.95, Lead(-0.05, 0.01), probe=0.96)
    assert found.why == (
        "The average of trials 7, 3, 5 was asked for: accuracy 0.95 on the validation split; trial 7 alone has 0.9, "
        "which is not better by more than one standard error of the difference (0.01). "
        "A linear model on the pretrained features is better: accuracy 0.96 on the validation split."
    )
