"""What both sides of the worker's benchmark are asked to do, and how their time is read."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Job:
    """One trial: the same configuration for both sides.

    Attributes:
        pictures: Folder with train, val and test.
        weights: State dict of the backbone, 1,000 classes.
        backbone: Name in torchvision.
        side: Pixels.
        epochs: To train.
        batch_size: Pictures in a step.
        learning_rate: Adam's learning rate, the same at every step.
        frozen_stages: Counted from the input, the stem first; ResNets have five.
        seed: The seed of this trial.
        workers: Processes of the script's DataLoader.
        device: `cpu` or `cuda`.
    """

    pictures: str
    weights: str
    backbone: str = "resnet18"
    side: int = 64
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    frozen_stages: int = 0
    seed: int = 0
    workers: int = 2
    device: str = "cpu"


@dataclass(frozen=True)
class Done:
    """What a trial brought: wall and CPU seconds from order to last word, and its best validation accuracy."""

    wall_s: float
    cpu_s: float
    accuracy: float
    epoch_s: tuple[float, ...] = ()
    begin_s: float = 0.0
    end_s: float = 0.0


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


class Stopwatch:
    """Wall and CPU seconds of another process from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._wall, self._cpu = time.perf_counter(), cpu_s(pid)

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.perf_counter() - self._wall, cpu_s(self._pid) - self._cpu
