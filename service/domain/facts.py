"""What the rules decide on: values read from storage, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass

from trimtab.contract.search_space import Scalar
from trimtab.contract.trials import FailureKind, TrialState

Curve = tuple[tuple[int, float | None], ...]
"""(step, intermediate value) in the order of the steps; None where the value was not finite."""


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """One trial as the sampler's history and the pruner need it."""

    number: int
    state: TrialState
    hyperparameters: Mapping[str, Scalar]
    curve: Curve = ()
    value: float | None = None
    error_kind: FailureKind | None = None
    runs_until: int | None = None
    """The number of epochs at which the search decides on it again; None: it runs to its end."""
    paused_by_search: bool = False
    """Whether it is paused, or about to, by the search; a claim may take it up again."""

    violation: float | None = None
    """The shares of their bounds by which a trial violates constraints, in sum; None: it keeps them all, as far as is known.

    One that is pruned and violates any was not trained.
    """
    margin: float | None = None
    """The share of its bound by which the constraint is violated that is violated most, below 0 where all are kept; None:
    there are no constraints, or none was measured."""
    second_value: float | None = None
    """The second objective's value of a completed trial, where its study has two."""

    @property
    def epochs(self) -> int | None:
        """How many epochs the trial is to have; None where its study's trials all have the same number."""
        return epochs_of(self.hyperparameters)


def epochs_of(hyperparameters: Mapping[str, Scalar]) -> int | None:
    """The number of epochs that a trial was proposed with, if that is searched."""
    epochs = hyperparameters.get("epochs")
    return epochs if isinstance(epochs, int) else None


Cursor = tuple[int, int]
"""(transaction id, event id): everything up to here is known. Both from the database, in commit order."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The trials of one study that changed since a cursor, as they are now."""

    trials: tuple[TrialFacts, ...]
    cursor: Cursor
    validation_rows: int | None = None
    """The size of the study's validation split; None: its data are not known yet."""
