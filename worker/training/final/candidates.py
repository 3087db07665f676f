"""The models that a study could hand over, and what each answers to a split."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trimtab.contract.final_report import CandidateKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import Split, TaskData
from worker.training.device.placement import PlacedSplit
from worker.training.errors import CheckpointError
from worker.training.final.evaluator import Evaluator, Told
from worker.training.final.probe import (
    Features,
    Probe,
    chosen_probe,
    features_of,
    fitted_probe,
)
from worker.training.loop.state import FitState
from worker.training.model.freezing import Freezing
from worker.training.objective import objectives

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of a study's best trials.

    Attributes:
        number: The number of the trial.
        recipe: The recipe that it was trained by.
        validated: Reads the state that its objective value was measured of; may raise CheckpointError.
        refits: Read the states of the same recipe trained on train and validation, one for each seed; may raise
            CheckpointError.
        model: The pretrained model that it began with; None: the evaluator's.
    """

    number: int
    recipe: Recipe
    validated: Callable[[], FitState]
    refits: Sequence[Callable[[], FitState]] = ()
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class TrainedState:
    """A trained state, which is read anew whenever it is asked: one network at a time is in memory.

    Attributes:
        recipe: The recipe that it was trained by.
        seen: The data that its trial saw.
        read: Reads the state.
        model: The pretrained model that it began with; None: the evaluator's.
    """

    recipe: Recipe
    seen: TaskData
    read: Callable[[], FitState]
    model: Model | None = None

    def open(self, evaluator: Evaluator) -> Freezing:
        """Build its network on the device; raises CheckpointError where the state is of no use."""
        return evaluator.of(self.model).trained(self.recipe, self.read(), self.seen)

    def told(self, evaluator: Evaluator, part: str, split: Split) -> Told:
        """Ask it about a split, in the form that its trial saw."""
        return evaluator.told(self.open(evaluator), self.seen, part, split)


@dataclass(frozen=True, slots=True)
class Member:
    """A finalist that can be used.

    Attributes:
        number: The number of the trial.
        validated: The state that was validated.
        refits: The states of its refits, in the order of their seeds.
        validation: The validated state's answers to the validation split.
    """

    number: int
    validated: TrainedState
    refits: Sequence[TrainedState]
    validation: Told

    @property
    def seen(self) -> TaskData:
        """The data that its trial saw."""
        return self.validated.seen

    @property
    def handed(self) -> TrainedState:
        """The state that is handed over of it alone."""
        return self.refits[0] if self.refits else self.validated


def members_of(
    evaluator: Evaluator, finalists: Sequence[Finalist]
) -> tuple[list[Member], list[str]]:
    """Ask each finalist about the validation split; return those that can be used, and what a person should know of the rest.

    Args:
        evaluator: The task and the machine.
        finalists: The best trials, the winner first.

    Raises:
        CheckpointError: The winner's state is of no use; without another trial's, the study goes on.
    """
    members: list[Member] = []
    notes: list[str] = []
    for finalist in finalists:
        seen = evaluator.of(finalist.model).load(finalist.recipe)
        validated = TrainedState(finalist.recipe, seen, finalist.validated, finalist.model)
        try:
            told = validated.told(evaluator, "validation", seen.validation)
        except CheckpointError as error:
            if not members:
                raise
            notes.append(_left_out(f"Trial {finalist.number}", error))
            continue
        refits = _refits_of(evaluator, finalist, seen, notes)
        members.append(Member(finalist.number, validated, refits, told))
    return members, notes


def _refits_of(
    evaluator: Evaluator, finalist: Finalist, seen: TaskData, notes: list[str]
) -> list[TrainedState]:
    found: list[TrainedState] = []
    for read in finalist.refits:
        refit = TrainedState(finalist.recipe, seen, read, finalist.model)
        try:
            # Before the choice: what cannot be opened cannot be handed over.
            refit.open(evaluator)
            found.append(refit)
        except CheckpointError as error:
            which = "The refit" if len(finalist.refits) == 1 else "A refit"
            notes.append(_left_out(f"{which} of trial {finalist.number}", error))
    return found


REFIT_WEIGHT = 2.0
"""How often a refit counts beside states that have not seen the validation split (`./run bench outcome`)."""


@dataclass(frozen=True, slots=True)
class Network:
    """A part of an average, and how often it counts."""

    state: TrainedState
    weight: float = 1.0


def networks_of(members: Sequence[Member]) -> list[Network]:
    """Return all that the average of the members is made of.

    Where each member has refits, these alone. Else what was validated counts too, the refitted members' own states among
    it: they cost nothing more, and err in other places.
    """
    if all(member.refits for member in members):
        return [Network(refit) for member in members for refit in member.refits]
    refits = [Network(one, REFIT_WEIGHT) for member in members for one in member.refits]
    return [*refits, *(Network(member.validated) for member in members)]


def _left_out(name: str, error: CheckpointError) -> str:
    log.warning("%s is left out: %s", name, error)
    return f"{name} is left out: its checkpoint is lost or cannot be used."


class Untrained:
    """The winner's pretrained model that no trial has trained: as it was, and with a linear probe in place of its head.

    Args:
        evaluator: The task and the machine.
        winner: The winner, whose data and precision it has.
    """

    def __init__(self, evaluator: Evaluator, winner: Member) -> None:
        seen = winner.seen
        self.recipe = winner.validated.recipe
        self.seed = winner.validated.read().seed
        evaluator = evaluator.of(winner.validated.model)
        self.pretrained = evaluator.model
        self.before = evaluator.before(seen, self.seed)
        self._evaluator = evaluator
        self._placed = [
            PlacedSplit(split, evaluator.device) for split in (seen.train, seen.validation)
        ]
        self._known = [features_of(self.before, placed) for placed in self._placed]
        self._objective = objectives.of(seen, Recipe())
        self._width = len(seen.outputs)
        self._chosen = chosen_probe(
            *self._known, objective=self._objective, outputs=self._width
        )

    @property
    def knew_the_classes(self) -> bool:
        """Whether the pretrained model has a head for the classes of the task."""
        return self.before.own_head is not None

    @property
    def takes_a_probe(self) -> bool:
        """Whether a probe can stand in the network itself: not where its head is a convolution."""
        return isinstance(self.before.head, nn.Linear)

    def probe(self, *, with_validation: bool) -> Probe:
        """Return the probe of the training split, or of train and validation together, with the same penalty."""
        if not with_validation:
            return self._chosen
        both = Features(
            torch.cat([part.values for part in self._known]),
            torch.cat([part.labels for part in self._known]),
        )
        return fitted_probe(
            both,
            objective=self._objective,
            outputs=self._width,
            strength=self._chosen.strength,
        )

    def on_validation(self) -> dict[CandidateKind, Tensor]:
        """Return what can be handed over of it answers to the validation split; the probe is that of train."""
        outputs: dict[CandidateKind, Tensor] = {}
        if self.takes_a_probe:
            outputs["linear_probe"] = self._chosen.outputs(self._known[1])
        if self.knew_the_classes:
            told = self._evaluator.told_before(self.before, self.recipe, self._placed[1])
            outputs["before"] = told.outputs
        return outputs

    def on_test(self, split: Split, probe: Probe) -> dict[CandidateKind, Tensor]:
        """Return what a probe and the pretrained model answer to the test split.

        Args:
            split: The test split.
            probe: The probe.
        """
        placed = PlacedSplit(split, self._evaluator.device)
        return {
            "linear_probe": probe.outputs(features_of(self.before, placed)),
            "before": self._evaluator.told_before(self.before, self.recipe, placed).outputs,
        }
