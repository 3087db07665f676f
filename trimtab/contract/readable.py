"""What can be read of a study's document, whether or not the rest of it is right: its rules are asked of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.contract.datasets import Modality
from trimtab.contract.finish import Finish
from trimtab.contract.given import dimension_of, fields_of, pruner_of
from trimtab.contract.models import names_of
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
    has_finish: bool = False
    transfer: object = "auto"
    has_needs: bool = False


def readable_of(given: object) -> Readable:
    """Read what can be read of a document as it was given, which is wrong somewhere."""
    fields = fields_of(given)
    dimensions = {
        name: dimension_of(one) for name, one in fields_of(fields.get("space")).items()
    }
    return Readable(
        dimensions,
        fields_of(fields.get("fixed")),
        str(fields_of(fields.get("search")).get("sampler", "tpe")),
        fields.get("teacher") is not None,
        str(fields_of(fields.get("task")).get("kind", "classification")),
        is_auto=fields.get("auto_space") is True,
        pruner=pruner_of(fields_of(fields.get("search")).get("pruner")),
        models=names_of(fields.get("model")),
        # Of what is no document nothing is missing.
        has_model=fields.get("model") is not None or not isinstance(given, Mapping),
        has_finish=fields.get("finish") is not None,
        has_needs=fields.get("needs") is not None,
    )
