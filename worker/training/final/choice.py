"""Which model a study hands over: chosen by the validation split alone, before the test split is opened."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.contract.final_report import CandidateKind
from trimtab.contract.metrics import Direction


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate and its objective value on the validation split.

    Attributes:
        kind: The kind of the candidate.
        value: The objective value.
        trials: The numbers of the trials that it comes from.
    """

    kind: CandidateKind
    value: float
    trials: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Lead:
    """How much better the winner is than the ensemble on the same rows.

    Attributes:
        gain: The difference in the objective; above 0, the winner is better.
        standard_error: The standard error of the difference.
    """

    gain: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen candidate.

    Attributes:
        measured: The candidate.
        why: The reasons, in words.
    """

    measured: Measured
    why: str


def choose(
    objective: str,
    direction: Direction,
    winner: Measured,
    *,
    ensemble: Measured | None = None,
    lead: Lead | None = None,
    others: Sequence[Measured] = (),
) -> Choice:
    """Choose by the validation split.

    The ensemble goes first where one was asked for: averaging seldom harms, and the winner's value is flattered by having
    been chosen as the best. So the winner has to be better by more than chance. What no trial has trained was chosen
    from nothing, so that it takes over as soon as it is better at all.

    Args:
        objective: The name of the metric.
        direction: Whether more or less of it is better.
        winner: The best trial.
        ensemble: The average of the best trials, if it was asked for.
        lead: The winner's lead over the ensemble; given with it.
        others: The candidates that no trial has trained.
    """
    choice = Choice(
        winner, f"Trial {winner.trials[0]} is the best: {_told(objective, winner)}."
    )
    if ensemble is not None and lead is not None:
        choice = _of_both(objective, winner, ensemble, lead)
    for other in others:
        if _is_better(other.value, choice.measured.value, direction):
            why = f"{choice.why} {_NAMES[other.kind]} is better: {_told(objective, other)}."
            choice = Choice(other, why)
    return choice


def _of_both(objective: str, winner: Measured, ensemble: Measured, lead: Lead) -> Choice:
    numbers = ", ".join(map(str, ensemble.trials))
    asked = f"The average of trials {numbers} was asked for: {_told(objective, ensemble)}"
    alone = f"trial {winner.trials[0]} alone has {winner.value:.4g}"
    error = f"one standard error of the difference ({lead.standard_error:.2g})"
    if lead.gain > lead.standard_error:
        return Choice(winner, f"{asked}; but {alone}, which is better by more than {error}.")
    return Choice(ensemble, f"{asked}; {alone}, which is not better by more than {error}.")


_NAMES: dict[CandidateKind, str] = {
    "linear_probe": "A linear model on the pretrained features",
    "before": "The pretrained model as it was",
}


def _told(objective: str, measured: Measured) -> str:
    return f"{objective} {measured.value:.4g} on the validation split"


def _is_better(one: float, other: float, direction: Direction) -> bool:
    return one > other if direction == "maximize" else one < other
