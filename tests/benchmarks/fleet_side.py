"""Workers of `./run bench fleet`: some of the fleet in one process, on the event loop, at the pace of real trainings.

`python -m tests.benchmarks.fleet_side '{"urls": [...], "workers": 50, "first": 0, "every_s": 10, "reports": 12}'` says
`ready` once all are registered and at work, begins to time at the line `go`, and at the line `tell` prints one JSON
object: wall milliseconds of each verb since `go`, and the answers that were refusals. At end-of-file it leaves.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.loads import Timings, Worker

CLAIM_WAIT_S = 20.0
"""As long as an agent lets the service hold its claim."""


@dataclass
class Part:
    """The workers of this process.

    Attributes:
        urls: Replicas, which the workers share evenly.
        workers: The number of workers.
        first: The number of the first one.
        every_s: Seconds from one report of a worker to its next one.
        reports: Epochs of a trial.
    """

    urls: Sequence[str]
    workers: int
    first: int
    every_s: float
    reports: int
    timings: Timings = field(default_factory=Timings)
    refused: list[str] = field(default_factory=list[str])

    async def run(self) -> None:
        """Register, work, and answer the lines on stdin until it ends."""
        chance = random.Random(self.first)
        workers = [
            Worker(self.urls[number % len(self.urls)], self.timings)
            for number in range(self.first, self.first + self.workers)
        ]
        for number, worker in enumerate(workers, self.first):
            await worker.register(f"fleet-{number}")
        tasks = [asyncio.create_task(self._live(worker, chance.random())) for worker in workers]
        _say("ready")
        lines = await _stdin()
        while line := await lines.readline():
            if line.strip() == b"go":
                self.timings.ms.clear()
                self.refused.clear()
            else:
                _say(json.dumps({"ms": self.timings.ms, "refused": self.refused}))
        for task in tasks:
            task.cancel()

    async def _live(self, worker: Worker, share: float) -> None:
        """Live trials one after the other, out of step with the other workers; a refusal is noted, and ends its trial."""
        await asyncio.sleep(share * self.every_s)
        while True:
            try:
                if lease := await worker.claim(CLAIM_WAIT_S):
                    await self._train(worker, lease)
            except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
                self.refused.append(str(error))
                await asyncio.sleep(1)

    async def _train(self, worker: Worker, lease: Any) -> None:
        due = time.monotonic()
        for step in range(self.reports):
            # Halfway to the next report, more often than an agent needs to: a report renews the lease as well.
            await _until(due + self.every_s / 2)
            if step % 3 == 0:
                await worker.heartbeat(lease)
            due += self.every_s
            await _until(due)
            await worker.report(lease, step)
        await worker.settle(lease)


async def _until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(Part(**json.loads(sys.argv[1])).run())
