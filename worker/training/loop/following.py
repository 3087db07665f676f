"""A training on several devices: how its ranks begin together, and what all but the first do until its end."""

import hashlib
import logging
from dataclasses import replace

import torch

from worker.training import seeding
from worker.training.device.rank_errors import Left, RankFailed, RanksUnlike
from worker.training.device.ranks import Kind, Ranks, Word
from worker.training.device.threads import computing_on
from worker.training.errors import Diverged
from worker.training.loop.step import train_epoch
from worker.training.loop.training import Training

log = logging.getLogger(__name__)


def begin_together(training: Training, ranks: Ranks) -> None:
    """Begin a training with all its ranks, each of which calls this.

    Raises:
        RankFailed: Another rank could not begin.
        RanksUnlike: The ranks do not begin with the same weights.
    """
    if not ranks.begin(digest(training)):
        raise RanksUnlike


def digest(training: Training) -> int:
    """Return a number that stands for the weights that a training has come to, and builds upon."""
    found = hashlib.sha256(training.frozen_sha256.encode())
    for tensor in training.moving.values():
        lying = tensor.detach().cpu().reshape(-1).contiguous()
        found.update(lying.view(torch.uint8).numpy().data)
    # As much as fits into a word.
    return int.from_bytes(found.digest()[:7])


def follow(training: Training, ranks: Ranks) -> None:
    """Take part in the epochs that the first rank begins, until it says that there are no more.

    Nothing is measured or kept here: the first rank does that.
    """
    failure: Exception | None = None
    while (epoch := _next_epoch(ranks, failure)) is not None:
        failure = _take_part(training, *epoch)


def _next_epoch(ranks: Ranks, failure: Exception | None) -> tuple[int, int] | None:
    """Wait for the next epoch; return its number and that of the threads that compute it, or None at the end.

    Args:
        ranks: All processes of the training.
        failure: The error that this rank has met, which the first one may not know yet: it could have been after the last step.
    """
    said = Word(Kind.WAITS if failure is None else Kind.FAILED)
    while True:
        try:
            first = ranks.exchange(said, failure)[0]
        except RankFailed:
            # The first rank has heard of it too, and ends the training.
            continue
        said, failure = Word(Kind.WAITS), None
        match first.kind:
            case Kind.END:
                return None
            case Kind.EPOCH:
                return first.number, first.second
            case _:
                # It is at a step that this rank does not take, hears that, and ends the training.
                pass


def _take_part(training: Training, epoch: int, threads: int) -> Exception | None:
    """Train an epoch with the others; return what has ended it early, if others may not know that."""
    resumed = training.part if epoch == training.progress.epochs else None
    training.part = None
    training.progress = replace(training.progress, epochs=epoch)
    learner, seed = training.learner, training.epoch_seed
    learner.averages.resume()
    try:
        with computing_on(threads), seeding.seeded(seed, learner.device):
            train_epoch(learner, epoch, resumed, lambda _: None, seed)
    except (Left, Diverged):
        # The first rank has left, or finds the same loss as this one.
        return None
    except Exception as error:
        log.info("an epoch ended early on this rank", exc_info=error)
        return error
    return None
