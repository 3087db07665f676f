"""What a person's own training loop is told of a trial: hyperparameters, and nothing else."""

from collections.abc import Mapping
from uuid import UUID

from trimtab.contract.external import ExternalTask
from trimtab.contract.leases import Checkpoint
from trimtab.contract.message import Message
from trimtab.contract.search_space import Scalar


class ExternalLease(Message):
    """A lease of a trial of an external study."""

    lease_id: UUID
    study: str
    trial_number: int
    fence: int
    ttl_s: float
    """Seconds after which the lease is lost unless its holder sends something."""
    seed: int
    task: ExternalTask
    hyperparameters: Mapping[str, Scalar]
    """The trial's values and those that the document fixes."""
    runs_until: int | None = None
    """The number of reports, of all attempts, at which the search decides whether the trial goes on; null: it runs to its end."""
    resume: Checkpoint | None = None
    """The checkpoint to go on from."""
    previous: Checkpoint | None = None
    """The checkpoint to go on from if `resume` is missing or damaged."""


class ExternalLeases(Message):
    """The leases that the claim of a loop was given."""

    leases: tuple[ExternalLease, ...]
