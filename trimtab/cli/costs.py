"""What a model costs, and whether it keeps its study's constraints, as people read it."""

from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from trimtab.cli.figures import figure, table, words
from trimtab.contract.objectives import COSTS, Violated
from trimtab.contract.pareto import Pareto
from trimtab.contract.search_space import Scalar
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


def front(answer: Pareto) -> RenderableType:
    """Return the front of a study as a table: both objectives, then the configuration."""
    metrics = [one.metric for one in answer.objectives]
    found = table("trial", *map(words, metrics), "hyperparameters")
    for one in answer.trials:
        told = [value(metric, one.values[metric]) for metric in metrics]
        configuration = "  ".join(
            f"{name}={_scalar(x)}" for name, x in one.hyperparameters.items()
        )
        found.add_row(str(one.number), *told, Text(configuration, style="dim"))
    return found


def _scalar(given: Scalar) -> str:
    return f"{given:.3g}" if isinstance(given, float) else str(given)


def constraints(found: Sequence[Violated]) -> Rows:
    """Return how many trials violate each constraint."""
    return [
        (
            "constraint",
            Text(
                f"{one.constraint.told}: {one.violated} of {one.completed} trials violate it"
                + f", {one.untrained} more were not trained for it" * bool(one.untrained)
            ),
        )
        for one in found
    ]
