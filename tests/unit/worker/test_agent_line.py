import os
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.leases import a_lease
from worker.pipe_messages import NEWS, Ended, Progress, RunTrial, Sender, Steer, read_news
from worker.runner.agent_channel import AgentChannel


@dataclass
class Ends:
    """Both ends of the two pipes."""

    channel: AgentChannel
    sender: Sender
    news: int

    def give(self) -> RunTrial:
        """Order a trial, and wait until the line has it."""
        order = RunTrial(lease=a_lease(), folder=Path("/nowhere"))
        self.sender.send(order)
        assert next(self.channel.trials()) == order
        return order


@pytest.fixture
def ends() -> Generator[Ends]:
    orders, orders_end = os.pipe()
    news, news_end = os.pipe()
    sender = Sender(orders_end)
    channel = AgentChannel(orders, news_end)
    yield Ends(channel, sender, news)
    sender.close()
    assert list(channel.trials()) == []
    os.close(news_end)
    os.close(news)


def test_an_epoch_waits_for_its_own_verdict(ends: Ends) -> None:
    lease_id = ends.give().lease.lease_id
    ends.sender.send(Steer(lease_id=lease_id, verdict="continue", step=3))
    ends.sender.send(Steer(lease_id=lease_id, verdict="stop", step=4))
    assert ends.channel.verdict(lease_id, 4) == "stop"


def test_a_word_in_between_is_heard_without_waiting(ends: Ends) -> None:
    lease_id = ends.give().lease.lease_id
    assert ends.channel.verdict_between_epochs(lease_id) == "continue"
    ends.sender.send(Steer(lease_id=lease_id, verdict="cancel"))
    ends.sender.send(Steer(lease_id=lease_id, verdict="continue", step=0))
    assert ends.channel.verdict(lease_id, 0) == "continue"
    assert ends.channel.verdict_between_epochs(lease_id) == "cancel"


def test_a_word_concerns_its_own_lease_alone(ends: Ends) -> None:
    one = ends.give().lease.lease_id
    other = ends.give().lease.lease_id
    ends.sender.send(Steer(lease_id=one, verdict="cancel"))
    ends.sender.send(Steer(lease_id=one, verdict="stop", step=0))
    ends.sender.send(Steer(lease_id=other, verdict="continue", step=0))
    assert ends.channel.verdict(other, 0) == "continue"
    assert ends.channel.verdict_between_epochs(other) == "continue"
    assert ends.channel.verdict(one, 0) == "stop"
    assert ends.channel.verdict_between_epochs(one) == "cancel"


def test_what_was_said_about_a_lease_is_forgotten_when_it_has_ended(ends: Ends) -> None:
    before = ends.give().lease.lease_id
    ends.channel.say(Ended(lease_id=before, outcome=None))
    now = ends.give().lease.lease_id
    ends.sender.send(Steer(lease_id=before, verdict="cancel"))
    ends.sender.send(Steer(lease_id=now, verdict="continue", step=0))
    assert ends.channel.verdict(now, 0) == "continue"
    with pytest.raises(KeyError):
        ends.channel.verdict_between_epochs(before)


def test_those_that_wait_are_taken_in_order_up_to_one_that_is_unlike(ends: Ends) -> None:
    first = ends.give().lease
    orders = [
        RunTrial(lease=a_lease(trial_number=n), folder=Path("/nowhere")) for n in range(4)
    ]
    for order in orders:
        ends.sender.send(order)
    ends.sender.send(Steer(lease_id=first.lease_id, verdict="continue", step=0))
    assert ends.channel.verdict(first.lease_id, 0) == "continue"  # All before it have come too.
    assert list(ends.channel.waiting(lambda lease: lease.trial_number != 2)) == orders[:2]
    assert list(ends.channel.waiting(lambda _: False)) == []
    assert list(islice(ends.channel.trials(), 2)) == orders[2:]


def test_a_runner_whose_agent_is_gone_cancels_and_asks_for_no_more(ends: Ends) -> None:
    lease_id = ends.give().lease.lease_id
    ends.sender.close()
    assert ends.channel.verdict(lease_id, 0) == "cancel"
    assert list(ends.channel.trials()) == []


def test_a_line_cut_off_by_a_death_is_dropped() -> None:
    reading, writing = os.pipe()
    whole = Progress(lease_id=uuid4())
    os.write(writing, NEWS.dump_json(whole) + b'\n{"kind": "prog')
    os.close(writing)
    assert list(read_news(reading)) == [whole]
