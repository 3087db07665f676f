"""The figures of the control plane's benchmark as tables and as JSON; pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from tests.benchmarks.samples import Sample, Sampler, Way, quantile, spread

Rounds = Mapping[tuple[Way, Sampler, int], Sequence[Sample]]
"""The samples of each (way, sampler, clients), one a round; those of one round stand at one index."""
VERBS = ("claim", "report", "settle")
OPTUNA: tuple[Way, ...] = ("rdb", "grpc")


def sampler_of(way: Way, sampler: Sampler) -> Sampler:
    """What a way is measured with: Vizier searches at random wherever the others use TPE."""
    return "random" if way == "vizier" else sampler


def service_cpu_ms(way: Way, sample: Sample) -> float:
    """CPU a trial of service and Postgres; without a service, the clients do its work."""
    service = sample.client_ms if way == "rdb" else sample.service_ms
    return service + sample.postgres_ms


def rate_ratios(
    rounds: Rounds, sampler: Sampler, clients: int, against: Sequence[Way] = OPTUNA
) -> list[float]:
    """Trials per second, ours to the best of some ways (Optuna's), in each round that has both."""
    found: list[float] = []
    ours = rounds.get(("ours", sampler, clients), ())
    for index, sample in enumerate(ours):
        others = [
            rounds[way, sampler, clients][index].rate
            for way in against
            if len(rounds.get((way, sampler, clients), ())) > index
        ]
        if others and max(others):
            found.append(sample.rate / max(others))
    return found


def cpu_ratios(rounds: Rounds, way: Way, clients: int) -> list[float]:
    """CPU a trial of service and Postgres, another way's to ours, in each round."""
    pairs = zip(
        rounds.get((way, "random", clients), ()),
        rounds.get(("ours", "random", clients), ()),
        strict=False,
    )
    return [
        service_cpu_ms(way, theirs) / service_cpu_ms("ours", ours)
        for theirs, ours in pairs
        if theirs.trials
    ]


def lines(rounds: Rounds, clients: int) -> Iterator[str]:
    """The table of one number of clients: each way's figures, then the ratios."""
    ways: list[Way] = [
        way for way, sampler, count in rounds if (sampler, count) == ("random", clients)
    ]
    for way in ways:
        yield _cpu_line(way, clients, rounds[way, "random", clients])
    for way in ways:
        yield _rate_line(way, clients, rounds[way, sampler_of(way, "tpe"), clients])
    for way in ways:
        if way != "ours" and (ratios := cpu_ratios(rounds, way, clients)):
            digits = 3 if way == "before" else 1
            yield f"  ratio {clients:>4} clients: CPU {way} / ours {spread(ratios, digits)}"
    for sampler in get_args(Sampler):
        if ratios := rate_ratios(rounds, sampler, clients):
            yield f"  ratio {clients:>4} clients, {sampler}: trials/s ours / best Optuna way {spread(ratios)}"
        if ratios := rate_ratios(rounds, sampler, clients, ["before"]):
            yield f"  ratio {clients:>4} clients, {sampler}: trials/s ours / before {spread(ratios, 3)}"


def _cpu_line(way: Way, clients: int, samples: Sequence[Sample]) -> str:
    samples = [sample for sample in samples if sample.trials]
    if not samples:
        return f"{way:>7} {clients:>4} clients: no trial ended in time"
    parts = {
        "service": "in its clients"
        if way == "rdb"
        else spread([sample.service_ms for sample in samples]),
        "Postgres": "none, SQLite in the service"
        if way == "vizier"
        else spread([sample.postgres_ms for sample in samples]),
        "clients": spread([sample.client_ms for sample in samples]),
    }
    total = spread([service_cpu_ms(way, sample) for sample in samples])
    said = ", ".join(f"{part} {figure}" for part, figure in parts.items())
    return f"{way:>7} {clients:>4} clients, random: CPU ms a trial {total} = {said}"


def _rate_line(way: Way, clients: int, samples: Sequence[Sample]) -> str:
    verbs = ", ".join(
        f"{verb} {p50:.1f}/{p99:.1f}" for verb, (p50, p99) in _quantiles(samples).items()
    )
    unfinished = sum(sample.unfinished for sample in samples)
    return (
        f"{way:>7} {clients:>4} clients, {'random' if way == 'vizier' else 'TPE'}: "
        f"trials/s {spread([sample.rate for sample in samples])}, p50/p99 ms {verbs}"
        + (f"; {unfinished} trials were not waited for" if unfinished else "")
    )


def _quantiles(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    pooled = {
        verb: [ms for sample in samples for ms in sample.times.get(verb, ())] for verb in VERBS
    }
    return {
        verb: (quantile(times, 0.5), quantile(times, 0.99))
        for verb, times in pooled.items()
        if times
    }


def figures(rounds: Rounds) -> dict[str, Any]:
    """The medians of all rounds, way by way and number of clients by number of clients."""
    found: dict[str, Any] = {
        key: {}
        for key in (
            "cpu_ms_per_trial",
            "cpu_ms_per_trial_apart",
            "trials_per_s",
            "trials_per_s_random",
            "quantiles_ms",
            "ratios",
        )
    }

    def put(key: str, way: str, clients: int, value: Any) -> None:
        found[key].setdefault(way, {})[str(clients)] = value

    for way, sampler, clients in rounds:
        samples = [one for one in rounds[way, sampler, clients] if one.trials]
        if sampler == "random" and samples:
            put(
                "cpu_ms_per_trial",
                way,
                clients,
                _median(service_cpu_ms(way, s) for s in samples),
            )
            put("cpu_ms_per_trial_apart", way, clients, _apart(samples))
            put("trials_per_s_random", way, clients, _median(s.rate for s in samples))
        if sampler == sampler_of(way, "tpe") and samples:
            put("trials_per_s", way, clients, _median(sample.rate for sample in samples))
            put("quantiles_ms", way, clients, _quantiles(samples))
        if sampler == "random" and way != "ours" and (more := cpu_ratios(rounds, way, clients)):
            put("ratios", f"cpu {way} / ours", clients, more)
        key = "trials_per_s" if sampler == "tpe" else "trials_per_s_random"
        if way == "ours" and (more := rate_ratios(rounds, sampler, clients)):
            put("ratios", f"{key} ours / optuna", clients, more)
        if way == "ours" and (more := rate_ratios(rounds, sampler, clients, ["before"])):
            put("ratios", f"{key} ours / before", clients, more)
    return found


def _apart(samples: Sequence[Sample]) -> dict[str, float]:
    return {
        "service": _median(sample.service_ms for sample in samples),
        "postgres": _median(sample.postgres_ms for sample in samples),
        "clients": _median(sample.client_ms for sample in samples),
    }


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 3)
