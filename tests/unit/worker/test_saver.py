import errno
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from worker import checkpoints
from worker.runner.checkpoint_writer import CheckpointWriter


@dataclass
class Clock:
    """Time that passes when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeEpoch:
    """An epoch whose state is a few bytes that take their time to be written."""

    epoch: int
    clock: Clock
    kept: bool
    full: list[bool]
    seconds: float = 1.0
    nbytes: int = 0
    last: bool = False
    copied: bool = False

    def state(self, *, whole: bool = True, copy: bool = True) -> "FakeEpoch":
        return replace(self, copied=copy)

    def save(self, path: Path) -> str | None:
        self.clock.now += self.seconds
        if self.full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_text(f"epoch {self.epoch}, {'a copy' if self.copied else 'itself'}")
        return None


def offering(
    writer: CheckpointWriter, clock: Clock, full: list[bool] | None = None
) -> Callable[..., None]:
    def offer(epoch: int, *, is_kept: bool) -> None:
        writer.offer(FakeEpoch(epoch, clock, kept=is_kept, full=full or [False]))
        writer.finish()

    return offer


def steps(folder: Path) -> list[int]:
    return [state.step for state in checkpoints.states(folder)]


def test_the_first_epoch_is_written_at_once(tmp_path: Path) -> None:
    clock = Clock()
    offering(CheckpointWriter(tmp_path, clock), clock)(0, is_kept=True)
    assert steps(tmp_path) == [0]


def test_writing_takes_no_more_than_its_share_of_the_time(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    offer = offering(writer, clock)
    offer(0, is_kept=True)
    clock.now += 48
    offer(1, is_kept=True)
    assert writer.newest is not None
    assert writer.newest.step == 0
    clock.now += 2
    offer(2, is_kept=False)
    assert writer.newest.step == 2


def test_a_best_state_that_was_not_due_is_written_with_the_next(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    offer = offering(writer, clock)
    offer(0, is_kept=True)
    offer(1, is_kept=True)
    clock.now += 60
    offer(2, is_kept=False)
    assert writer.best is not None
    assert writer.best.step == 1
    assert writer.newest is not None
    assert writer.newest.step == 2


def test_the_best_state_is_on_disk_at_the_end(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    offer = offering(writer, clock)
    offer(0, is_kept=True)
    offer(1, is_kept=True)
    offer(2, is_kept=False)
    writer.save_best()
    assert writer.best is not None
    assert writer.best.step == 1
    assert writer.best.path.read_text() == "epoch 1, a copy"


def test_the_last_epoch_is_written_without_a_copy(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    writer.offer(FakeEpoch(0, clock, kept=True, full=[False], last=True))
    assert steps(tmp_path) == []
    writer.save_best()
    assert writer.best is not None
    assert writer.best.path.read_text() == "epoch 0, itself"


def test_a_last_epoch_that_is_not_the_best_is_not_written(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    offering(writer, clock)(0, is_kept=True)
    clock.now += 600
    writer.offer(FakeEpoch(1, clock, kept=False, full=[False], last=True))
    writer.save_best()
    assert steps(tmp_path) == [0]


def test_a_best_state_makes_room_before_the_next_is_copied(tmp_path: Path) -> None:
    copies: list[weakref.ref[FakeEpoch]] = []

    class Large(FakeEpoch):
        def state(self, *, whole: bool = True, copy: bool = True) -> FakeEpoch:
            assert all(former() is None for former in copies)
            state = super().state(whole=whole, copy=copy)
            copies.append(weakref.ref(state))
            return state

    writer = CheckpointWriter(tmp_path, Clock())
    for epoch in range(3):
        writer.offer(Large(epoch, Clock(), kept=True, full=[False], nbytes=10**12))
    assert len(copies) == 3


def test_a_full_disk_costs_the_checkpoint_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, full = Clock(), [True]
    writer = CheckpointWriter(tmp_path, clock)
    offer = offering(writer, clock, full)
    for epoch in range(3):
        clock.now += 600
        offer(epoch, is_kept=True)
    assert writer.newest is None
    assert len(caplog.records) == 1
    full[0] = False
    writer.save_best()
    assert writer.best is not None
    assert writer.best.step == 2


@dataclass
class SlowEpoch(FakeEpoch):
    """One whose writing waits to be told."""

    go: threading.Event = field(default_factory=threading.Event)

    def save(self, path: Path) -> str | None:
        assert self.go.wait(30)
        return super().save(path)


def test_training_goes_on_while_a_state_is_written(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    slow = SlowEpoch(0, clock, kept=True, full=[False])
    writer.offer(slow)
    assert steps(tmp_path) == []
    slow.go.set()
    writer.close()
    assert steps(tmp_path) == [0]


def test_a_best_state_that_comes_while_another_is_written_is_not_lost(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    slow = SlowEpoch(0, clock, kept=True, full=[False])
    writer.offer(slow)
    writer.offer(FakeEpoch(1, clock, kept=True, full=[False]))
    slow.go.set()
    writer.save_best()
    assert writer.best is not None
    assert writer.best.step == 1


def test_the_first_write_waits_until_it_is_worth_its_time(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(tmp_path, clock)
    large = FakeEpoch(0, clock, kept=False, full=[False], nbytes=200_000_000)
    clock.now += 49
    writer.offer(large)
    writer.finish()
    assert steps(tmp_path) == []
    clock.now += 2
    writer.offer(replace(large, epoch=1))
    writer.finish()
    assert steps(tmp_path) == [1]


def test_a_state_that_cannot_be_written_for_another_reason_is_an_error(tmp_path: Path) -> None:
    class Broken(FakeEpoch):
        def save(self, path: Path) -> str | None:
            raise MemoryError

    writer = CheckpointWriter(tmp_path, Clock())
    writer.offer(Broken(0, Clock(), kept=False, full=[False]))
    with pytest.raises(MemoryError):
        writer.save_best()


def test_a_state_within_the_first_epoch_is_one_of_step_0(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path)
    writer.save(FakeEpoch(-1, Clock(), kept=False, full=[False]))
    assert writer.newest is not None
    assert (writer.newest.step, writer.best) == (0, None)
