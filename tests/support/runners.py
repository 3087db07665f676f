"""One real training process, spoken to as its agent does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

from trimtab.contract.leases import Failed, Lease, Verdict
from worker import checkpoints
from worker.agent import runner_process
from worker.agent.events import RunnerExited, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import (
    Ended,
    EpochDone,
    News,
    Progress,
    Ready,
    RunTrial,
    SavedState,
    Steer,
)


class Trials:
    """Runs one trial after the other in one runner, and forgets their checkpoints.

    Args:
        cache_dir: The runner's.
        device: Where it trains.
        arguments: More of its own.
        module: That is run.
    """

    def __init__(
        self, cache_dir: Path, device: str, *arguments: str, module: str = "worker.runner"
    ) -> None:
        self._cache_dir = cache_dir
        self._news: SimpleQueue[RunnerMessage | RunnerExited] = SimpleQueue()
        argv = ("--device", device, "--cache-dir", str(cache_dir), *arguments)
        self.runner = RunnerProcess(runner_process.command(module, argv), self._news.put)
        assert isinstance(self._next(), Ready)

    def run(self, lease: Lease) -> Ended:
        """Run one to its end, each epoch's verdict being to go on."""
        folder = checkpoints.folder_of(self._cache_dir / "checkpoints", lease)
        self.runner.send(RunTrial(lease=lease, folder=folder))
        while not isinstance(news := self._next(), Ended):
            if isinstance(news, EpochDone):
                self.runner.send(
                    Steer(lease_id=lease.lease_id, verdict="continue", step=news.report.step)
                )
        checkpoints.discard_trial(folder)
        return news

    def order(self, lease: Lease, *resume: SavedState) -> None:
        """Send one, whatever else trains."""
        folder = checkpoints.folder_of(self._cache_dir / "checkpoints", lease)
        self.runner.send(RunTrial(lease=lease, folder=folder, resume=resume))

    def hear(self, answer: Callable[[EpochDone], Verdict | None]) -> Iterator[News]:
        """Yield what it says, each epoch answered; None leaves it without an answer."""
        while True:
            news = self._next()
            if isinstance(news, EpochDone) and (verdict := answer(news)) is not None:
                self.runner.send(
                    Steer(lease_id=news.lease_id, verdict=verdict, step=news.report.step)
                )
            yield news

    def exit(self) -> Failed:
        """Wait for the process to leave; return what is told of that."""
        while not isinstance(said := self._news.get(timeout=120), RunnerExited):
            pass
        return said.failure

    def _next(self) -> News:
        while True:
            said = self._news.get(timeout=120)
            assert isinstance(said, RunnerMessage), said
            if not isinstance(said.news, Progress):
                return said.news
