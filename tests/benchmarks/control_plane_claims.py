"""What a claim costs as a study grows, under TPE: cold, warm, and for the studies beside it."""

import asyncio
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass

from tests.benchmarks.control_plane_ways import FINISHED, optuna_study, our_study, service
from tests.benchmarks.loads import Timings, Worker
from tests.benchmarks.machine import Bench
from tests.benchmarks.samples import quantile

OUR_CLAIMS = 30
RDB_CLAIMS = 6
CLAIMS_BEFORE = 100


@dataclass(frozen=True)
class Claims:
    """Milliseconds of a cold process's first claim, and of those that follow."""

    first: float
    following: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.following)


@dataclass(frozen=True)
class Beside:
    """Milliseconds of a small study's claims, as (p50, p99), before and while a large one is loaded.

    Attributes:
        before: nothing else goes on.
        during: until the large study's first claim was answered.
        claims: how many claims `during` is made of.
        load_s: what that first claim took.
    """

    before: tuple[float, float]
    during: tuple[float, float]
    claims: int
    load_s: float


def of_ours(bench: Bench, finished: int) -> Claims:
    """One worker claims and settles at a fresh service."""
    with (
        service(bench) as (client, _, url),
        our_study(bench, client, url, "tpe", finished),
    ):
        times = asyncio.run(_claims(url, OUR_CLAIMS + 1))
    return Claims(times[0], tuple(times[1:]))


async def _claims(url: str, count: int) -> list[float]:
    timings = Timings()
    worker = Worker(url, timings)
    await worker.register("claims")
    for _ in range(count):
        await worker.settle(await worker.claim())
    worker.close()
    return timings.ms["claim"]


def of_rdb(bench: Bench, finished: int) -> Claims:
    """The same for Optuna's RDBStorage, in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.optuna_peer", "claim", bench.url]
    output = subprocess.check_output([*argv, optuna_study(bench, finished), str(RDB_CLAIMS)])
    found = json.loads(output)
    return Claims(found["first"], tuple(found["next"]))


def beside(bench: Bench, finished: int) -> Beside:
    """Claim from a small study while a large one, cold, gets its first claim."""
    with (
        service(bench) as (client, _, url),
        our_study(bench, client, url, "tpe", FINISHED) as small,
        our_study(bench, client, url, "tpe", finished) as large,
    ):
        return asyncio.run(_beside(url, small, large))


async def _beside(url: str, small: str, large: str) -> Beside:
    near, far = Timings(), Timings()
    worker, other = Worker(url, near), Worker(url, far)
    await worker.register("small")
    await other.register("large")

    async def claim_small() -> None:
        # Of two studies in which nothing runs, a claim serves the older.
        lease = await worker.claim()
        assert lease["study"] == small, "the claim went astray"
        await worker.settle(lease)

    for _ in range(CLAIMS_BEFORE + 1):
        await claim_small()
    before = near.ms.pop("claim")[1:]
    # One trial runs in the small study, so this claim serves the large one.
    lease = await worker.claim()
    loading = asyncio.create_task(other.claim())
    await asyncio.sleep(0.2)
    await worker.settle(lease)
    near.ms.pop("claim")
    await claim_small()
    while not loading.done():
        await claim_small()
    assert (await loading)["study"] == large, "the large study was not loaded"
    await other.settle(await loading)
    during = near.ms["claim"]
    return Beside(_tails(before), _tails(during), len(during), far.ms["claim"][0] / 1e3)


def _tails(times: list[float]) -> tuple[float, float]:
    return quantile(times, 0.5), quantile(times, 0.99)
