"""Steps of a training that are tried and taken back, to learn how many threads compute them fastest."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import torch

from worker.training import seeding
from worker.training.device.threads import Attempt, ThreadChoice, computing_on
from worker.training.loop.step import make_ready, take_step, whole_batches
from worker.training.loop.training import Training


def tells(training: Training) -> bool:
    """Whether the number of threads matters: on a GPU, or for a small head, it does not."""
    learner = training.learner
    is_small = learner.plain is not None and learner.plain.is_small
    return learner.device.type == "cpu" and not is_small


def threads_of(training: Training) -> int | None:
    """Return the number of threads that compute the steps of a training; None where a GPU does."""
    if training.learner.device.type != "cpu":
        return None
    return training.threads.steps if tells(training) else 1


def choose_threads(training: Training, choice: ThreadChoice) -> None:
    """Give a training the number of threads that its steps are to be computed with from now on."""
    with _steps(training) as attempt:
        count = choice.choose("steps", attempt)
    training.use_threads(count)


@contextmanager
def _steps(training: Training) -> Generator[Attempt]:
    """Let steps of a training be tried inside; afterwards it is as it was, to the bit."""
    learner, kept = training.learner, training.state()
    epoch = training.progress.epochs
    size = min(learner.recipe.batch_size, len(learner.inputs.train))
    rows = whole_batches(torch.arange(len(learner.inputs.train)), size)[:size]

    def attempt(threads: int) -> float:
        with computing_on(threads):
            began = time.perf_counter()
            take_step(learner, rows, learner.recipe.learning_rate)
            return time.perf_counter() - began

    try:
        # With a seed of its own, so that no number is drawn that the training would draw.
        with seeding.seeded(seeding.derive(training.seed, "tried"), learner.device):
            learner.averages.resume()
            make_ready(learner, epoch)
            yield attempt
    finally:
        training.put_back(kept)
