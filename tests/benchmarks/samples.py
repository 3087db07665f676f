"""What one measurement of one way to run trials yields."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Way = Literal["ours", "before", "rdb", "grpc", "vizier"]
"""`before`: the service of another checkout; the others as in `control_plane_ways`."""
Sampler = Literal["random", "tpe"]
WAYS: tuple[Way, ...] = ("ours", "rdb", "grpc", "vizier")


@dataclass(frozen=True)
class Sample:
    """What one way did in one measurement.

    Attributes:
        trials: settled.
        unfinished: begun, but not settled in time.
        rate: settled trials per second.
        service_ms: CPU a trial of the service (or proxy, or server).
        postgres_ms: CPU a trial of Postgres.
        client_ms: CPU a trial of the clients.
        times: wall milliseconds of each call, by verb.
    """

    trials: int
    unfinished: int
    rate: float
    service_ms: float
    postgres_ms: float
    client_ms: float
    times: Mapping[str, Sequence[float]]


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, of a value that was measured; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, minimum and maximum."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}..{max(values):.{digits}f})"
