"""A training between two epochs or two batches: what it works with, how far it is, and its state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from trimtab.contract.validation_outputs import ValidationOutputs
from worker.training import seeding
from worker.training.device.threads import Threads
from worker.training.errors import CheckpointIncompatible
from worker.training.features import features
from worker.training.loop.choice import EpochRule
from worker.training.loop.state import FitState, PartOfEpoch, Progress
from worker.training.loop.step import Learner
from worker.training.model.freezing import Freezing
from worker.training.model.lora import LowRank
from worker.training.objective import validation_outputs


@dataclass(slots=True)
class Training:
    """A training that is going on, one epoch at each `next_epochs`.

    Attributes:
        learner: All that an epoch works with.
        low_rank: The LoRA factors; None without LoRA.
        seed: The seed that all randomness of the training is derived from.
        frozen_sha256: The sha256 of the pretrained weights that it builds upon (`origin`).
        moving: The tensors of the network that some epoch moves, by name; the tensors themselves.
        threads: The numbers of threads that it computes with.
        rule: The rule of how many epochs there are, and which of them is kept.
        progress: Epochs finished, what is kept and its worth, early stopping's counters.
        part: The part that is done of an epoch that was left between two batches; None between two epochs.
        answers: Its answers to the validation rows after the epochs that `progress` has values of, by their numbers.
    """

    learner: Learner
    low_rank: LowRank | None
    seed: int
    frozen_sha256: str
    moving: Mapping[str, Tensor]
    threads: Threads
    rule: EpochRule
    progress: Progress = field(default_factory=Progress)
    part: PartOfEpoch | None = None
    answers: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])

    @property
    def ended(self) -> bool:
        """Whether no further epoch follows."""
        return self.rule.ends(self.progress)

    @property
    def epoch_seed(self) -> int:
        """The seed of the epoch that is trained now or next."""
        # Each epoch has a seed of its own. A training that resumes between two epochs draws what the uninterrupted one
        # would have drawn, without the state of any generator in the checkpoint.
        return seeding.derive(self.seed, "epoch", self.progress.epochs)

    def end_epoch(
        self,
        value: float,
        answers: Tensor | None,
        adaptation_weight: float | None,
        metrics: Mapping[str, float],
        seconds: float,
    ) -> None:
        """Count an epoch as finished.

        Args:
            value: Its objective value.
            answers: The answers to the validation rows; None where these are not kept.
            adaptation_weight: The point between pretrained and trained weights that was chosen, if one was.
            metrics: All that was measured on the validation split after it.
            seconds: The seconds that it took.
        """
        known = {} if answers is None else {self.progress.epochs: answers}
        self.progress = self.rule.after(
            self.progress,
            value,
            adaptation_weight=adaptation_weight,
            metrics=metrics,
            seconds=seconds,
        )
        self.part = None
        valued = self.progress.valued
        self.answers = {
            epoch: each for epoch, each in {**self.answers, **known}.items() if epoch in valued
        }

    @property
    def validation_outputs(self) -> ValidationOutputs | None:
        """The answers to the validation rows of the epochs whose mean it is worth; None where some are not kept."""
        epochs = self.progress.averaged
        if not epochs or not self.answers.keys() >= {*epochs}:
            return None
        return validation_outputs.pack([self.answers[epoch] for epoch in epochs])

    @property
    def may_group(self) -> bool:
        """Whether others may be trained beside it: all that learns is a small head on features that are kept."""
        plain = self.learner.plain
        return plain is not None and plain.is_small and plain.layer is self.learner.model.head

    @property
    def nbytes(self) -> int:
        """Bytes of its whole state: weights that move, moments and averages."""
        held = self.learner.optimizer.nbytes + self.learner.averages.nbytes
        return sum(value.nbytes for value in self.moving.values()) + held

    def state(self, *, whole: bool = True, copy: bool = True) -> FitState:
        """Return everything that the next epoch depends on.

        Args:
            whole: Without it the optimizer's moments are left out: enough for evaluation, too little to carry on from.
            copy: Without it weights that are on the CPU are the model's own: to be used before the model is again.
        """
        # On the CPU, because a state is written by another thread, and may outlive the turn on the device. Copied,
        # because the next epoch moves the tensors in place.
        learner = self.learner
        return FitState(
            seed=self.seed,
            frozen_stages=learner.freezing.still,
            frozen_sha256=self.frozen_sha256,
            optimizer=learner.recipe.optimizer,
            progress=self.progress,
            threads=self.threads,
            weights={
                name: tensor.detach().to("cpu", copy=copy)
                for name, tensor in self.moving.items()
            },
            moments=learner.optimizer.tensors() if whole else {},
            averages=learner.averages.tensors() if whole else {},
            part=self.part,
            answers=self.answers,
        )

    def restore(self, state: FitState) -> None:
        """Carry on from a state of this very training.

        Raises:
            CheckpointIncompatible: It is of another one.
        """
        # The cheap questions first, each with its own words. The tensors' names and shapes tell the rest.
        freezing, recipe = self.learner.freezing, self.learner.recipe
        if state.seed != self.seed:
            raise CheckpointIncompatible(
                f"the checkpoint's seed is {state.seed}, not {self.seed}"
            )
        if state.optimizer != recipe.optimizer:
            raise CheckpointIncompatible(
                f"the checkpoint is of {state.optimizer}, the recipe asks for {recipe.optimizer}"
            )
        if state.frozen_stages != freezing.still:
            raise CheckpointIncompatible(
                f"the checkpoint is of another training: {state.frozen_stages} stages were frozen in it"
            )
        _check(freezing, state, self.low_rank)
        try:
            self.put_back(state)
        except ValueError as error:
            raise CheckpointIncompatible(
                f"the checkpoint is of another training: {error}"
            ) from error

    def use_threads(self, count: int) -> None:
        """Compute the steps with this many threads from now on."""
        self.threads = replace(self.threads, steps=count)

    def put_back(self, state: FitState) -> None:
        """Return to a state that this very object has had, or one like it.

        Raises:
            ValueError: The optimizer's moments are of other parameters.
        """
        _put(self.learner.freezing, state, self.low_rank)
        self.learner.optimizer.restore(state.moments)
        self.learner.averages.restore(state.averages)
        self.progress = state.progress
        self.part = state.part
        self.answers = state.answers


def load_weights(freezing: Freezing, state: FitState) -> None:
    """Give a model, which has its pretrained weights, those that a training moved; those of LoRA are merged.

    Args:
        freezing: The model, and what the training's recipe moves in it.
        state: The state of the training, after any epoch.

    Raises:
        CheckpointIncompatible: They are another network's.
    """
    low_rank = freezing.low_rank(state.seed)
    _check(freezing, state, low_rank)
    _put(freezing, state, low_rank)


def _check(freezing: Freezing, state: FitState, low_rank: LowRank | None) -> None:
    # Checked as a whole before anything is loaded: `_put` would pass over names that do not fit.
    model, moving = freezing.model, freezing.moving(low_rank)
    same = moving.keys() == state.weights.keys() and all(
        moving[name].shape == value.shape for name, value in state.weights.items()
    )
    if not same:
        raise CheckpointIncompatible(
            f"the checkpoint is not of {model.name} with a head of this kind and {len(model.classes)} outputs"
        )
    if origin(freezing) != state.frozen_sha256:
        raise CheckpointIncompatible(
            f"the checkpoint's training began with other weights of {model.name} than these"
        )


def _put(freezing: Freezing, state: FitState, low_rank: LowRank | None) -> None:
    if low_rank is not None:
        low_rank.load(state.weights)
    freezing.model.network.load_state_dict(dict(state.weights), strict=False)


def origin(freezing: Freezing) -> str:
    """Return the sha256 of the pretrained weights that a training builds upon and that its state does not hold."""
    model, recipe = freezing.model, freezing.recipe
    # These three come back to the pretrained weights of every stage: LoRA adds to them, L2-SP pulls to them, WiSE-FT
    # mixes with them. Without them, what a trained stage began with no longer matters.
    builds_on_all = recipe.lora_rank or recipe.l2_sp or recipe.adaptation_grid
    stages = len(model.stages) if builds_on_all else freezing.still
    # Layers that are drawn anew are not those that were loaded, whatever is known of these.
    return features.digest(model, stages, remember=not recipe.reinit_layers)
