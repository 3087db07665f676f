"""A process that trains on one of a trial's further devices: `python -P -m worker.runner.follower`.

It is started by the training process that the agent knows (`followers.py`), takes orders from it, and tells nobody
anything: what it meets the first process hears in the next exchange of the ranks.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from trimtab import lifeline
from worker import devices
from worker.pipe_messages import Ended, RunTrial
from worker.runner import followers, runner, starting
from worker.runner.agent_channel import AgentChannel
from worker.runner.progress import ProgressReporter
from worker.runner.resources import Resources
from worker.training.device.rank_errors import RankFailed, RanksUnlike
from worker.training.device.ranks import Kind, Ranks, Word
from worker.training.loop.following import begin_together, follow
from worker.training.loop.training import Training

log = logging.getLogger(__name__)


class Alone(Exception):
    """The first device shares a training that this one would leave to it alone."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what the first rank trains, until it closes the pipe or dies."""
    parser = runner.parser()
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--meeting", type=Path, required=True)
    arguments = parser.parse_args(argv)
    rank: int = arguments.rank
    meeting: Path = arguments.meeting
    lifeline.watch(arguments.lifeline, lambda: _leave(meeting.parent))
    runner.prepare_process()
    # Whatever a trial says of itself, the first rank says.
    channel = AgentChannel(arguments.orders, os.open(os.devnull, os.O_WRONLY))
    names = devices.several(arguments.device, arguments.devices, torch.cuda.device_count())
    device = torch.device(names[rank])
    resources = runner.open_resources(arguments, channel, device)
    ranks = Ranks.join(rank, arguments.devices, meeting, device)
    for order in channel.trials():
        _train(resources, order, ranks)
        channel.say(Ended(lease_id=order.lease.lease_id, outcome=None))
        runner.tidy(device)


def _leave(folder: Path) -> None:
    followers.remove(folder)
    os._exit(0)


def _train(resources: Resources, order: RunTrial, ranks: Ranks) -> None:
    try:
        training = _begun(resources, order, ranks)
    except Exception as error:
        log.info("%s/%d", order.lease.study, order.lease.trial_number, exc_info=error)
        with suppress(RankFailed):
            ranks.exchange(Word(Kind.FAILED), error)
        return
    # What they cannot begin together the first rank ends.
    with suppress(RankFailed, RanksUnlike):
        begin_together(training, ranks)
        follow(training, ranks)


def _begun(resources: Resources, order: RunTrial, ranks: Ranks) -> Training:
    progress = ProgressReporter(resources.channel, order.lease.lease_id)
    training = starting.follow_training(resources, order, progress, ranks)
    if training.learner.ranks is None:
        raise Alone
    return training


if __name__ == "__main__":
    main()
