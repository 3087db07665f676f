"""The backbone cache: a pretrained backbone that is kept from trial to trial.

To reset it in place takes milliseconds, where building and reading it takes seconds.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import Tensor

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training.model import backbones, freezing, heads
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.model.heads import Head
from worker.training.model.user_backbones import OwnBackbones


class BackboneCache:
    """Holds the backbone of the last trial, with a copy of its weights as they were loaded."""

    def __init__(self, own: OwnBackbones | None = None) -> None:
        """Begin with nothing; `own` are the backbones that are registered on this worker."""
        self._own = own
        self._held: _Held | None = None

    def take(
        self,
        model: Model,
        *,
        classes: Sequence[str],
        seed: int,
        recipe: Recipe | None = None,
        weights_dir: Path | None = None,
        head: Head = heads.LINEAR,
        place: int = 0,
    ) -> Backbone:
        """Return what `backbones.build` would, bit by bit; whoever took this place's before must have let go of it.

        Args:
            model: Backbone and weights. Random weights depend on the seed, and are drawn anew each time.
            classes: Names of the head's outputs, in order.
            seed: The seed that the head is drawn from.
            recipe: The recipe of the training that takes it: stages that no epoch of it trains need no reset after it.
            weights_dir: The folder of published weights; None is torch's cache and the working directory.
            head: The shape of the head.
            place: A number for each of those that are trained at a time, from 0. The backbones above 0 share all but the
                head with the one at 0, and are for trainings of the head alone beside one of the same model.

        Raises:
            WeightsError: The weights are missing, unreachable, unreadable or another network's.
            BackboneError: An own backbone is not registered here, or no network for the task.
        """
        # Random weights are another set for each seed, so that there is nothing to keep. What was held makes room.
        if model.weights == "none":
            self.clear()
            return self._build(model, classes, seed, weights_dir, head)
        held = self._held
        # The file's stamp is asked for each time: a person may replace the weights between two trials, and the next
        # trial is to begin with the new ones, as one in a fresh process would.
        wanted = (model, tuple(classes), weights_dir)
        if held is None or held.wanted != wanted or _stamp(held.path) != held.stamp:
            # First out of the way: two of the largest backbones need not fit into memory.
            self.clear()
            built = self._build(model, classes, seed, weights_dir)
            self._held = held = _Held(wanted, built)
        return held.twin(place, seed, head) if place else held.reset(seed, recipe, head)

    @staticmethod
    def has_places(model: Model) -> bool:
        """Whether several trainings can share this model's weights: random ones are each trial's own."""
        return model.weights != "none"

    def _build(
        self,
        model: Model,
        classes: Sequence[str],
        seed: int,
        weights_dir: Path | None,
        head: Head = heads.LINEAR,
    ) -> Backbone:
        return backbones.build(
            model, classes=classes, seed=seed, weights_dir=weights_dir, own=self._own, head=head
        )

    def clear(self) -> None:
        """Keep nothing: what was held may be damaged, or its memory is needed."""
        self._held = None


_Wanted = tuple[Model, tuple[str, ...], Path | None]


class _Held:
    def __init__(self, wanted: _Wanted, backbone: Backbone) -> None:
        self.wanted = wanted
        self.path = Path("" if backbone.report is None else backbone.report.source)
        self.stamp = _stamp(self.path)
        self._backbone = backbone
        state = cast(dict[str, Tensor], backbone.network.state_dict())
        self._loaded = {name: value.clone() for name, value in state.items()}
        # The number of stages from the input on that hold their pretrained weights for certain.
        self._intact = len(backbone.stages)
        self._twins: dict[int, Backbone] = {}
        # From here on all changes go through `reset`, which is what makes a remembered hash trustworthy.
        backbone.digests = {}

    def reset(self, seed: int, recipe: Recipe | None, head: Head) -> Backbone:
        network = self._backbone.network
        self._backbone.put_head(head)
        # Only what the last training may have moved is copied back: of a head on frozen stages, next to nothing.
        moved = freezing.state_of(self._backbone, self._intact, frozen=False)
        # Another head than the one that was loaded has names of its own, and is drawn below.
        for name in moved.keys() & self._loaded.keys():
            moved[name].copy_(self._loaded[name])
        # Noted before the training moves anything, so that a training that dies half-way leaves a true number.
        self._intact = 0 if recipe is None else Freezing(self._backbone, recipe).still
        for parameter in network.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        network.train()
        self._backbone.draw_head(seed)
        return self._backbone

    def twin(self, place: int, seed: int, head: Head) -> Backbone:
        # Twins share the stages, since all members of a group leave them as they are: a group of eight then takes the
        # memory of one backbone. Each has a head of its own, and its own wrapper to call it by.
        if place not in self._twins:
            self._twins[place] = _with_own_head(self._backbone)
        twin = self._twins[place]
        twin.put_head(head)
        for name, value in freezing.state_of(twin, len(twin.stages), frozen=False).items():
            if name in self._loaded:
                value.copy_(self._loaded[name])
        for parameter in twin.head.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        twin.draw_head(seed)
        return twin


def _with_own_head(backbone: Backbone) -> Backbone:
    """Copy a backbone, but for its stages, which both have in common, and for how it is cut."""
    network = backbone.network
    names = freezing.frozen_modules(backbone, len(backbone.stages))
    lone = dict(network.named_parameters())
    stages = [lone[name] if name in lone else network.get_submodule(name) for name in names]
    # deepcopy takes what its memo names as copied already. The cut is left out: its rest would call the other head.
    memo = {id(part): part for part in (*stages, backbone.digests, backbone.report)}
    return copy.deepcopy(backbone, {**memo, id(backbone.halves): {}})


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, which change when it is replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
