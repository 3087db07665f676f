from unittest.mock import Mock
from uuid import uuid4

import pytest

from worker.runner.progress import (
    Cancelled,
    Finished,
    Paused,
    ProgressReporter,
    Work,
    has_moved,
    work_done,
)


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        (Work(10.0, 1000), False),
        (Work(10.01, 1000), False),
        (Work(10.5, 1000), True),
        (Work(10.0, 1300), False),
        (Work(10.0, 1000 + (1 << 20)), True),
    ],
)
def test_a_process_that_only_waits_does_not_move(now: Work, moved: bool) -> None:
    assert has_moved(Work(10.0, 1000), now) == moved


def test_computing_is_work() -> None:
    before = work_done()
    while work_done().processor_s - before.processor_s < 0.02:
        sum(range(1000))
    assert has_moved(before, work_done())


@pytest.mark.parametrize(
    ("verdict", "raised"), [("pause", Paused), ("cancel", Cancelled), ("finish", Finished)]
)
def test_between_two_batches_a_trial_hears_that_it_is_to_leave(
    verdict: str, raised: type[Exception]
) -> None:
    channel = Mock()
    channel.verdict_between_epochs.return_value = verdict
    with pytest.raises(raised):
        ProgressReporter(channel, uuid4()).batch()
