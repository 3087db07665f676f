"""What searches of the replay came to, kept in a file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.replay_simulator import Better, Replayed


@dataclass(frozen=True, order=True)
class Setting:
    """What several sides are compared in.

    Attributes:
        task: The name of the task.
        workers: The number of workers.
        full_runs: The budget of each worker.
        restart: The epochs that it costs to take up another trial.
    """

    task: str
    workers: int
    full_runs: float
    restart: float = 0.0

    @property
    def name(self) -> str:
        """The task, and what restarts cost if they do."""
        return f"{self.task}, restart {self.restart:g}" if self.restart else self.task


@dataclass(frozen=True)
class Run:
    """One search of one side."""

    setting: Setting
    side: str
    seed: int


class Kept:
    """All results so far; with a file they outlive this process, and what is in it is not run again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self.done = dict(map(_read, lines))

    def add(self, run: Run, result: Replayed) -> None:
        """Keep the result of a run."""
        self.done[run] = result
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({**asdict(run), "result": asdict(result)}) + "\n")


def _read(line: str) -> tuple[Run, Replayed]:
    fields: dict[str, Any] = json.loads(line)
    result = fields.pop("result")
    better = tuple(Better(**one) for one in result.pop("better"))
    setting = Setting(**fields.pop("setting"))
    return Run(setting, **fields), Replayed(better=better, **result)
