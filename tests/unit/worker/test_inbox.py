"""Where events come in, and who gets which."""

from uuid import uuid4

import pytest

from tests.support.records import a_record
from trimtab.contract.leases import Failed, Report
from worker.inbox import Died, Drain, Event, Inbox, Post, Said
from worker.pipe_messages import Began, Ended, EpochDone, News, Progress, Ready, Refused

LEASE_ID = uuid4()


@pytest.fixture
def inboxes() -> list[Inbox]:
    """Three, each for a lease of its own."""
    inboxes = [Inbox() for _ in range(3)]
    for inbox, lease_id in zip(inboxes, (uuid4(), LEASE_ID, uuid4()), strict=True):
        inbox.lease_id = lease_id
    return inboxes


def heard(inboxes: list[Inbox], event: Said | Died | Drain) -> list[Event | None]:
    """What each got."""
    Post(inboxes).put(event)
    return [inbox.get(0) for inbox in inboxes]


def test_an_inbox_that_nothing_came_to_says_so() -> None:
    assert Inbox().get(0) is None


@pytest.mark.parametrize(
    "news",
    [
        Began(lease_id=LEASE_ID, record=a_record()),
        EpochDone(lease_id=LEASE_ID, report=Report(step=0, value=0.5)),
        Ended(lease_id=LEASE_ID, outcome=None),
    ],
    ids=lambda news: news.kind,
)
def test_news_of_a_lease_comes_to_its_inbox_alone(inboxes: list[Inbox], news: News) -> None:
    event = Said(7, news)
    assert heard(inboxes, event) == [None, event, None]


def test_news_of_a_lease_that_nobody_has_any_more_comes_to_nobody(inboxes: list[Inbox]) -> None:
    assert heard(inboxes, Said(7, Ended(lease_id=uuid4(), outcome=None))) == [None] * 3


def test_that_one_trial_moves_is_news_for_all_who_wait_for_it(inboxes: list[Inbox]) -> None:
    inboxes[2].lease_id = None
    event = Said(7, Progress(lease_id=LEASE_ID))
    assert heard(inboxes, event) == [event, event, None]


@pytest.mark.parametrize("news", [Ready(device="cpu"), Refused(message="no device")])
def test_what_the_runner_says_of_itself_comes_to_the_first(
    inboxes: list[Inbox], news: News
) -> None:
    event = Said(7, news)
    assert heard(inboxes, event) == [event, None, None]


@pytest.mark.parametrize("event", [Died(7, Failed(error="crashed")), Drain()], ids=str)
def test_the_runners_death_and_the_word_to_leave_come_to_all(
    inboxes: list[Inbox], event: Died | Drain
) -> None:
    assert heard(inboxes, event) == [event, event, event]
