"""Trainings that are one linear layer on features and nothing else.

Such a training takes microseconds a step. What surrounds the step then costs more than the step, so that it is worth
a path of its own (`grouped_epoch`).
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from trimtab.contract.recipe import Recipe
from worker.training.device.threads import computing_on
from worker.training.features.features import Inputs
from worker.training.loop.distillation import Lessons
from worker.training.objective.objectives import Classification, Objective

_UNDIVIDED = 32_768
"""Up to this many elements torch itself does not divide among threads; its fused optimizers and MKL do."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear layer that learns alone, under the mean cross-entropy without weights, from features `(N, F)`.

    Attributes:
        layer: The layer, from features `(N, F)` to logits `(N, classes)`.
    """

    layer: nn.Linear

    @property
    def is_small(self) -> bool:
        """Whether the layer is so small that calling a kernel takes longer than the computation in it."""
        return self.layer.weight.numel() <= _UNDIVIDED


@contextmanager
def few_threads(head: LinearHead | None) -> Generator[None]:
    """Compute a small head on one thread inside: to wake a second one takes longer than the work.

    Args:
        head: The head that is trained or measured inside; None, like a large one, keeps all threads.
    """
    if head is None or not head.is_small:
        yield
        return
    with computing_on(1):
        yield


def of(
    inputs: Inputs, objective: Objective, recipe: Recipe, lessons: Lessons | None
) -> LinearHead | None:
    """Return the head of a training that is nothing else; None where any option asks for more than plain steps.

    Hyperparameters of scope `head` never ask for more: they are the optimizer's, the schedule's and the averages', which
    each head has for itself. Those of the other scopes may, and are looked at by what they have made of the training.

    Args:
        inputs: The features that it goes over, or pictures.
        objective: The loss that it lowers.
        recipe: Says whether batches are divided.
        lessons: A teacher's answers; None where nobody teaches.
    """
    # Scopes `network` and `data`: then more than one layer is trained, or its inputs are not kept (`inputs.layer`).
    # Scope `step`: a loss that is not plain, parts of a batch, a teacher.
    asks_for_more = lessons is not None or recipe.micro_batch_size is not None
    if inputs.layer is None or asks_for_more:
        return None
    is_plain = isinstance(objective, Classification) and objective.is_plain
    return LinearHead(inputs.layer) if is_plain else None
