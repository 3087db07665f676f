"""The processes that train on a trial's further devices, as the first one sees them: started, told what to train, watched.

The first process is the one that the agent knows: it alone speaks to it, and what becomes of the others becomes of it. So
the agent needs to know nothing of them: their death is a crash of the training process, and where they hang, it makes no
progress.
"""

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch

from trimtab import lifeline
from worker.pipe_messages import RunTrial, Sender
from worker.training.device.ranks import Ranks, loopback
from worker.training.loop.following import begin_together
from worker.training.loop.training import Training

log = logging.getLogger(__name__)

MODULE = "worker.runner.follower"


class Followers:
    """All ranks of a runner but the first, from its start to its end.

    Attributes:
        ranks: All processes, as the first one sees them.
    """

    def __init__(self, ranks: Ranks, senders: Sequence[Sender]) -> None:
        self.ranks = ranks
        self._senders = senders

    @classmethod
    def start(
        cls, arguments: Sequence[str], count: int, device: torch.device, folder: Path
    ) -> Self:
        """Start them, and return when all are there.

        Args:
            arguments: The arguments of the command line that they share with the first one.
            count: The number of ranks, the first one included.
            device: The device of the first one.
            folder: The folder to meet in (`meeting_folder`).
        """
        os.environ.update(loopback())
        meeting = folder / "ranks"
        senders: list[Sender] = []
        for rank in range(1, count):
            own = ("--rank", str(rank), "--meeting", str(meeting))
            child, sender = _start([sys.executable, "-P", "-m", MODULE, *arguments, *own])
            senders.append(sender)
            threading.Thread(
                target=_die_with, args=(child, rank, folder), name=f"rank-{rank}", daemon=True
            ).start()
        ranks = Ranks.join(0, count, meeting, device)
        if device.type == "cpu":
            remove(folder)
        return cls(ranks, senders)

    def begin(self, order: RunTrial, training: Training) -> None:
        """Have them begin a trial whose training has begun here.

        Args:
            order: The order, with the one state to resume from, if this training has resumed from one.
            training: The training.

        Raises:
            RankFailed: One of them could not begin.
            RanksUnlike: One of them did not begin with the same weights.
        """
        for sender in self._senders:
            sender.send(order)
        begin_together(training, self.ranks)


def meeting_folder() -> Path:
    """Make a folder that only this user may enter, for the file in which the ranks meet."""
    return Path(tempfile.mkdtemp(prefix="trimtab-ranks-"))


def remove(folder: Path) -> None:
    """Remove it, whoever else has."""
    shutil.rmtree(folder, ignore_errors=True)


def _start(argv: Sequence[str]) -> tuple[lifeline.Child, Sender]:
    orders, writing = os.pipe()
    try:
        # In this process's group: the agent, which knows of no others, ends the group.
        child = lifeline.spawn(
            [*argv, "--orders", str(orders)],
            stdout=sys.stderr.fileno(),
            pass_fds=(orders,),
            own_session=False,
        )
    finally:
        os.close(orders)
    return child, Sender(writing)


def _die_with(child: lifeline.Child, rank: int, folder: Path) -> None:
    """Leave as a follower has left, so that the agent tells what has happened to it."""
    code = child.process.wait()
    log.warning(
        "the process of the trial's device %d has left: the training process ends", rank + 1
    )
    remove(folder)
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code if code > 0 else 1)
