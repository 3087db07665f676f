"""What a model costs, and whether it keeps its study's constraints, as people read it."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from trimtab.cli.figures import figure, words
from trimtab.contract.objectives import COSTS, Violated
from trimtab.contract.trials import Trial

Rows = list[tuple[str, Text]]


def value(metric: str, found: float) -> str:
    """Return a metric or a cost with its unit as text."""
    match metric:
        case "parameters":
            return f"{found:,.0f}"
        case "latency_ms":
            return f"{found:.4g} ms a sample"
        case "memory_bytes":
            return f"{found / 1e9:.3g} GB at most"
        case "train_seconds":
            return f"{found:.4g} s"
        case _:
            return figure(metric, found)


def rows(measured: Mapping[str, float]) -> Rows:
    """Return what a model costs, a row for each cost that was measured."""
    return [
        (words(cost), Text(value(cost, measured[cost]))) for cost in COSTS if cost in measured
    ]


def of_trial(trial: Trial) -> Rows:
    """Return what a trial's model costs, and which constraints it violates."""
    broken = [metric for metric, share in trial.violations.items() if share > 0]
    told = ", ".join(
        f"{metric} by {trial.violations[metric]:.1%} of its bound" for metric in broken
    )
    infeasible = [("infeasible", Text(f"violates {told}", style="yellow"))] if broken else []
    return [*infeasible, *rows(trial.measured)]


def constraints(found: Sequence[Violated]) -> Rows:
    """Return how many completed trials violate each constraint."""
    return [
        (
            "constraint",
            Text(f"{one.constraint.told}: {one.violated} of {one.completed} trials violate it"),
        )
        for one in found
    ]
