"""Reasons of the search's decisions as text."""

from rich.text import Text

from trimtab.cli.failures import printable
from trimtab.cli.figures import figure
from trimtab.contract.reasons import Reason


def rows(metric: str, reason: Reason | None) -> list[tuple[str, Text]]:
    """Return why the search did with a trial what it did, and the value that it expects at the end."""
    if reason is None:
        return []
    told = [("why", Text(printable(reason.text)))]
    if reason.expected is not None:
        told.append(("expected", Text(expected(metric, reason))))
    return told


def expected(metric: str, reason: Reason | None) -> str:
    """Return the value that a trial is expected to end with, and its 95 % interval, as text."""
    if reason is None or reason.expected is None:
        return "-"
    low, high = figure(metric, reason.expected.low), figure(metric, reason.expected.high)
    return f"{figure(metric, reason.expected.value)} ({low.removesuffix(' %')} to {high})"
