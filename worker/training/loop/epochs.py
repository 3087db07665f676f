"""The epochs of a training, one after the other, or of several trainings at a time."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from worker.training import seeding
from worker.training.device.ranks import Kind, Word
from worker.training.device.threads import computing_on
from worker.training.errors import Diverged
from worker.training.loop import grouped_epoch, linear_head
from worker.training.loop.grouped_epoch import GroupMember
from worker.training.loop.state import FitState, PartOfEpoch
from worker.training.loop.step import Learner, train_epoch
from worker.training.loop.training import Training
from worker.training.objective import validation_outputs
from worker.training.objective.evaluate import Scores, evaluate
from worker.training.optim.weight_averages import estimate_statistics


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one epoch brought.

    Attributes:
        epoch: The number of the epoch, counted from 0.
        value: The objective on the validation split after it; without such a split, `train_loss`.
        trial_value: The value that trials are compared by, as it would be if the training ended here.
        train_loss: Mean over the epoch, while the weights moved.
        metrics: Everything measured on the validation split after it, the mean `loss` included; without such a split,
            nothing is.
        seconds: The seconds that training and validation took; in a group, one member's share of the training.
        kept: Whether its state is the one to evaluate, if no later epoch's replaces it.
        last: Whether no other follows it.
    """

    epoch: int
    value: float
    trial_value: float
    train_loss: float
    metrics: Mapping[str, float]
    seconds: float
    kept: bool
    last: bool
    _training: Training = field(repr=False, compare=False)

    @property
    def micro_batch_size(self) -> int | None:
        """The number of pictures that are computed at once; None means whole batches."""
        return self._training.learner.micro_batches.largest

    @property
    def nbytes(self) -> int:
        """Bytes of the training's whole state."""
        return self._training.nbytes

    def state(self, *, whole: bool = True, copy: bool = True) -> FitState:
        """Return the training's state (`Training.state`).

        Raises:
            RuntimeError: The next epoch has begun, and the weights are no longer this one's.
        """
        # The model is trained in place, so that an epoch's weights are there only until the next one begins.
        if self._training.progress.epochs != self.epoch + 1:
            raise RuntimeError(
                "the state of an epoch is to be taken before the next is asked for"
            )
        return self._training.state(whole=whole, copy=copy)


def epochs_of(training: Training) -> Iterator[EpochResult]:
    """Train one epoch after the other, until the recipe or its early stopping ends it.

    Raises:
        Diverged: A loss is not finite.
    """
    try:
        while not training.ended:
            (epoch,) = next_epochs([training])
            if isinstance(epoch, Exception):
                raise epoch
            yield epoch
    finally:
        if training.learner.ranks is not None:
            training.learner.ranks.dismiss()


def next_epochs(trainings: Sequence[Training]) -> list[EpochResult | Exception]:
    """Train the next epoch of a training, or of the trainings of a group in one computation.

    Args:
        trainings: One training, or several linear heads (`Training.may_group`); no training of them has ended.

    Returns:
        What each one's epoch brought, or what ended that training.
    """
    began = time.perf_counter()
    # The last validation may have left averaged weights in the model; what is trained goes on from the others.
    for training in trainings:
        training.learner.averages.resume()
    # Trainings of a group are small heads, which compute on one thread whatever their number is.
    with (
        computing_on(trainings[0].threads.steps),
        linear_head.few_threads(trainings[0].learner.plain),
    ):
        losses = _train(trainings)
        # The epochs of a group run at once: each member is charged an equal share, so that the shares add up.
        spent_s = (time.perf_counter() - began) / len(trainings)
        return [
            _result(training, loss, spent_s)
            for training, loss in zip(trainings, losses, strict=True)
        ]


def _train(trainings: Sequence[Training]) -> list[float | Exception]:
    members = [
        GroupMember(
            training.learner,
            training.learner.plain,
            training.progress.epochs,
            training.epoch_seed,
        )
        for training in trainings
        if training.learner.plain is not None
    ]
    if members:
        grouped_epoch.train_epochs(members)
        return [member.failure or member.loss for member in members]
    # Nothing but linear heads is grouped, so that anything else is alone here.
    (training,) = trainings
    learner = training.learner

    def note(part: PartOfEpoch) -> None:
        training.part = part

    epoch, seed = training.progress.epochs, training.epoch_seed
    try:
        if learner.ranks is not None:
            learner.ranks.exchange(Word(Kind.EPOCH, epoch, training.threads.steps))
        with seeding.seeded(seed, learner.device):
            return [train_epoch(learner, epoch, training.part, note, seed)]
    except Exception as error:  # noqa: BLE001 - it is raised again, or told with the epoch it ends
        return [error]


def _result(
    training: Training, train_loss: float | Exception, trained_s: float
) -> EpochResult | Exception:
    if isinstance(train_loss, Exception):
        return train_loss
    began, epoch = time.perf_counter(), training.progress.epochs
    try:
        scores, weight = _measure(training.learner, epoch)
        value = _value(training, scores, train_loss)
        answers = validation_outputs.answers_of(scores, training.learner.objective)
        seconds = trained_s + time.perf_counter() - began
        training.end_epoch(value, answers, weight, scores.metrics, seconds)
    except Exception as error:  # noqa: BLE001 - as above
        return error
    return EpochResult(
        epoch=epoch,
        value=value,
        trial_value=training.progress.value,
        train_loss=train_loss,
        metrics=scores.metrics
        if weight is None
        else {**scores.metrics, "adaptation_weight": weight},
        seconds=seconds,
        kept=training.progress.kept_epoch == epoch,
        last=training.ended,
        _training=training,
    )


def _value(training: Training, scores: Scores, train_loss: float) -> float:
    """Return the epoch's value; raises Diverged where the loss or the objective is not finite."""
    if training.learner.inputs.validation is None:
        return train_loss
    value = scores.metrics[training.learner.objective.metric]
    if not (math.isfinite(scores.loss) and math.isfinite(value)):
        raise Diverged(training.progress.epochs, "validation")
    return value


def _measure(learner: Learner, epoch: int) -> tuple[Scores, float | None]:
    """Score the weights that this epoch has come to; return the chosen point between pretrained and trained too."""
    inputs = learner.inputs
    # A layer has no modes: setting those of the whole network takes longer than measuring it.
    model = learner.model if learner.plain is None else learner.plain.layer

    def scores() -> Scores:
        if inputs.validation is None:
            return Scores({}, 0)
        return evaluate(
            model,
            inputs.validation,
            learner.objective,
            inputs.forward,
            precision=learner.recipe.precision,
            micro_batches=learner.micro_batches,
            each_batch=learner.each_batch,
        )

    def goodness(found: Scores) -> float:
        value = found.metrics[learner.objective.metric]
        return value if learner.objective.direction == "maximize" else -value

    return learner.averages.show(
        epoch,
        estimate=lambda: estimate_statistics(
            learner.freezing,
            inputs.train,
            inputs.forward,
            epoch=epoch,
            micro_batches=learner.averages.micro_batches,
        ),
        measure=scores,
        goodness=goodness,
    )
