"""Where events come in, and who gets which."""

from uuid import uuid4

import pytest

from tests.support.records import a_record
from trimtab.contract.leases import Failed, Report
from worker.agent.events import (
    DrainRequested,
    Event,
    EventQueue,
    EventRouter,
    RunnerExited,
    RunnerMessage,
)
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress, Ready, Refused

LEASE_ID = uuid4()


@pytest.fixture
def queues() -> list[EventQueue]:
    """Three, each for a lease of its own."""
    queues = [EventQueue() for _ in range(3)]
    for queue, lease_id in zip(queues, (uuid4(), LEASE_ID, uuid4()), strict=True):
        queue.lease_id = lease_id
    return queues


def heard(
    queues: list[EventQueue], event: RunnerMessage | RunnerExited | DrainRequested
) -> list[Event | None]:
    """What each got."""
    EventRouter(queues).put(event)
    return [queue.get(0) for queue in queues]


def test_an_inbox_that_nothing_came_to_says_so() -> None:
    assert EventQueue().get(0) is None


@pytest.mark.parametrize(
    "news",
    [
        Began(lease_id=LEASE_ID, record=a_record()),
        EpochDone(lease_id=LEASE_ID, report=Report(step=0, value=0.5)),
        Ended(lease_id=LEASE_ID, outcome=None),
    ],
    ids=lambda news: news.kind,
)
def test_news_of_a_lease_comes_to_its_inbox_alone(queues: list[EventQueue], news: News) -> None:
    event = RunnerMessage(7, news)
    assert heard(queues, event) == [None, event, None]


def test_news_of_a_lease_that_nobody_has_any_more_comes_to_nobody(
    queues: list[EventQueue],
) -> None:
    assert heard(queues, RunnerMessage(7, Ended(lease_id=uuid4(), outcome=None))) == [None] * 3


def test_that_one_trial_moves_is_news_for_all_who_wait_for_it(queues: list[EventQueue]) -> None:
    queues[2].lease_id = None
    event = RunnerMessage(7, Progress(lease_id=LEASE_ID))
    assert heard(queues, event) == [event, event, None]


@pytest.mark.parametrize("news", [Ready(device="cpu"), Refused(message="no device")])
def test_what_the_runner_says_of_itself_comes_to_the_first(
    queues: list[EventQueue], news: News
) -> None:
    event = RunnerMessage(7, news)
    assert heard(queues, event) == [event, None, None]


@pytest.mark.parametrize(
    "event", [RunnerExited(7, Failed(error="crashed")), DrainRequested()], ids=str
)
def test_the_runners_death_and_the_word_to_leave_come_to_all(
    queues: list[EventQueue], event: RunnerExited | DrainRequested
) -> None:
    assert heard(queues, event) == [event, event, event]
