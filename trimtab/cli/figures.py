"""Figures as text: the values of metrics with their names and intervals; and the tables that they stand in."""

from rich import box
from rich.table import Table

from trimtab.contract.final_report import Interval
from trimtab.contract.metrics import SHARES, plain


def words(metric: str) -> str:
    """Return the name of a metric in words."""
    column, dot, name = metric.rpartition(".")
    return column + dot + name.replace("_", " ")


def figure(metric: str, value: float | None) -> str:
    """Return a value of a metric as text: shares in per cent, other metrics as a number."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if plain(metric) in SHARES else f"{value:.5g}"


def measured(metric: str, value: float | None) -> str:
    """Return a value of a metric as text, with the metric's name."""
    return "-" if value is None else f"{figure(metric, value)} {words(metric)}"


def interval(metric: str, found: Interval) -> str:
    """Return a value with its 95 % interval as text."""
    if found.low == found.high:
        return f"{figure(metric, found.value)}, no interval: too few rows, or all alike"
    low, high = figure(metric, found.low).removesuffix(" %"), figure(metric, found.high)
    return f"{figure(metric, found.value)}, 95 % interval {low} to {high}"


def gain(metric: str, found: Interval) -> str:
    """Return how much better something is, with its 95 % interval, as text; shares in points."""
    factor, unit = (100, " points") if plain(metric) in SHARES else (1, "")
    value, low, high = (factor * part for part in (found.value, found.low, found.high))
    digits = "+.2f" if unit else "+.3g"
    told = f"{value:{digits}}{unit}, 95 % interval {low:{digits}} to {high:{digits}}"
    return told if found.low > 0 else f"{told}: not shown to be better"


def table(*columns: str) -> Table:
    """Return an empty table with these columns."""
    empty = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        empty.add_column(column, overflow="fold")
    return empty
