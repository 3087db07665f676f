"""What a training loop says of one step, checked before it is sent: each mistake in words that name the loop's own call."""

import math
import operator
from collections.abc import Mapping
from typing import SupportsFloat, SupportsIndex

from trimtab.contract.external import ExternalTask
from trimtab.contract.faults import hint
from trimtab.contract.leases import Report
from trimtab.contract.problems import Invalid

STEPS = 100_000
"""Steps are below this number."""


def report_of(
    task: ExternalTask,
    step: SupportsIndex,
    value: SupportsFloat | None,
    metrics: Mapping[str, SupportsFloat],
) -> Report:
    """Return the report of one step; an objective that is not finite is sent as none.

    Args:
        task: The task of the study.
        step: The number of the step, from 0.
        value: The value of the objective, where it has no name.
        metrics: The values by the names of metrics.

    Raises:
        Invalid: a metric is not one of the study's, the objective is missing, or something is not a number.
    """
    told = {name: _number(name, one) for name, one in metrics.items()}
    if unknown := sorted(set(told) - set(task.reported)):
        raise Invalid(
            f"{unknown[0]!r} is no metric of this study; {hint(unknown[0], task.reported)}. "
            "The document names what may be reported: `objective` and `metrics` of its task."
        )
    if value is not None:
        if task.objective in told:
            raise Invalid(
                f"The objective {task.objective!r} is reported twice: once without its name."
            )
        told[task.objective] = _number(task.objective, value)
    if task.objective not in told:
        raise Invalid(
            f"Each report has the study's objective, as `trial.report(step, {task.objective}=...)`."
        )
    objective = told[task.objective]
    return Report(
        step=step_of(step),
        value=objective if math.isfinite(objective) else None,
        metrics={name: one for name, one in told.items() if math.isfinite(one)},
    )


def _number(name: str, value: SupportsFloat) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Invalid(
            f"{name!r} is reported as {type(value).__name__}, and not as a number."
        ) from None


def refuse_if_not_after(last: Report | None, report: Report) -> None:
    """Refuse a step that does not rise.

    Raises:
        Invalid: it does not.
    """
    if last is not None and report.step <= last.step:
        raise Invalid(f"Step {report.step} is reported after step {last.step}: steps rise.")


def step_of(step: SupportsIndex) -> int:
    """Return the number of a step.

    Raises:
        Invalid: it is none.
    """
    try:
        number = operator.index(step)
    except TypeError:
        raise Invalid(f"A step is a whole number, and not {type(step).__name__}.") from None
    if not 0 <= number < STEPS:
        raise Invalid(f"A step is 0 or more and below {STEPS}, and not {number}.")
    return number
