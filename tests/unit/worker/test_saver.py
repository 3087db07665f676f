import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from worker import checkpoints
from worker.saver import Saver


@dataclass
class Clock:
    """Time that passes when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeState:
    """A training state of a few bytes that takes its time to be written."""

    epoch: int
    clock: Clock
    seconds: float = 1.0
    full: list[bool] = field(default_factory=lambda: [False])

    def save(self, path: Path) -> None:
        self.clock.now += self.seconds
        if self.full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text(f"epoch {self.epoch}")


def offering(saver: Saver, clock: Clock, full: list[bool] | None = None) -> Callable[..., None]:
    def offer(epoch: int, *, is_best: bool) -> None:
        state = FakeState(epoch, clock, full=full or [False])
        saver.offer(lambda: state, is_best=is_best)

    return offer


def steps(folder: Path) -> list[int]:
    return [state.step for state in checkpoints.states(folder)]


def test_the_first_epoch_is_written_at_once(tmp_path: Path) -> None:
    clock = Clock()
    offering(Saver(tmp_path, clock), clock)(0, is_best=True)
    assert steps(tmp_path) == [0]


def test_writing_takes_no_more_than_its_share_of_the_time(tmp_path: Path) -> None:
    clock = Clock()
    saver = Saver(tmp_path, clock)
    offer = offering(saver, clock)
    offer(0, is_best=True)
    clock.now += 48
    offer(1, is_best=True)
    assert saver.newest is not None
    assert saver.newest.step == 0
    clock.now += 2
    offer(2, is_best=False)
    assert saver.newest.step == 2


def test_a_best_state_that_was_not_due_is_written_with_the_next(tmp_path: Path) -> None:
    clock = Clock()
    saver = Saver(tmp_path, clock)
    offer = offering(saver, clock)
    offer(0, is_best=True)
    offer(1, is_best=True)
    clock.now += 60
    offer(2, is_best=False)
    assert saver.best is not None
    assert saver.best.step == 1
    assert saver.newest is not None
    assert saver.newest.step == 2


def test_the_best_state_is_on_disk_at_the_end(tmp_path: Path) -> None:
    clock = Clock()
    saver = Saver(tmp_path, clock)
    offer = offering(saver, clock)
    offer(0, is_best=True)
    offer(1, is_best=True)
    offer(2, is_best=False)
    saver.save_best()
    assert saver.best is not None
    assert saver.best.step == 1
    assert saver.best.path.read_text() == "epoch 1"


def test_a_full_disk_costs_the_checkpoint_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, full = Clock(), [True]
    saver = Saver(tmp_path, clock)
    offer = offering(saver, clock, full)
    for epoch in range(3):
        clock.now += 600
        offer(epoch, is_best=True)
    assert saver.newest is None
    assert len(caplog.records) == 1
    full[0] = False
    saver.save_best()
    assert saver.best is not None
    assert saver.best.step == 2
