"""What can be read of a study's document, whether or not the rest of it is right: its rules are asked of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.contract.datasets import Modality
from trimtab.contract.finish import Finish
from trimtab.contract.objectives import Constraint, Objective
from trimtab.contract.pruners import Pruner
from trimtab.contract.search_space import Dimension, Scalar

Place = tuple[str | int, ...]
"""A place in a document."""


@dataclass(frozen=True)
class Readable:
    """What can be read of a document, whether or not the rest of it is right."""

    space: Mapping[str, Dimension | None]
    """A dimension that is wrong by itself is None."""
    fixed: Mapping[str, Scalar]
    sampler: str
    taught: bool
    kind: str
    trials: int | None = None
    finish: Finish | None = None
    is_auto: bool = False
    completed: Sequence[str] = ()
    points: Sequence[tuple[Place, Mapping[str, Scalar]]] = ()
    epochs: int | None = None
    """The budget of epochs."""
    epochs_of_trial: int = 1
    """The points to begin with, each with its place in the document."""
    pruner: Pruner | None = None
    models: Sequence[str] | None = None
    """The names of the models that trials have one of; None where all have the same."""
    constraints: Sequence[Constraint] = ()
    objectives: Sequence[Objective] = ()
    objective: str = ""
    """The metric that the task names."""
    metrics: Sequence[str] = ()
    """The metrics that are measured of the task."""
    reads: frozenset[Modality] = frozenset()
    """The kinds of data that the models read, as far as that is known."""
    modality: Modality | None = None
    """The kind of the data set's samples; None where it is not known."""
    has_model: bool = True
    transfer: object = "auto"
