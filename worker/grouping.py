"""Which trials one runner may train at a time: those whose heads alone learn, each in its own way, on the same features."""

from trimtab.contract import hyperparameters
from trimtab.contract.leases import Lease

HEAD_ONLY = hyperparameters.of_scope("head")
"""Hyperparameters that change how a head learns, and nothing of what it is or learns from."""


def is_likely_to_share(lease: Lease) -> bool:
    """Tell whether the other trials of its study are likely to share a runner: only `HEAD_ONLY` is searched."""
    return lease.kind == "trial" and lease.hyperparameters.keys() <= HEAD_ONLY


def may_share_runner(one: Lease, other: Lease) -> bool:
    """Tell whether both may be trained together, where one of them may open a group at all."""
    # With gradual unfreezing the number of epochs, which may differ, decides how many stages are never trained.
    return _shared(one) == _shared(other) and not one.recipe.unfreeze_every


def _shared(lease: Lease) -> tuple[object, ...]:
    """All that must be the same for both."""
    recipe = lease.recipe.model_dump(exclude=set(HEAD_ONLY))
    return lease.kind, lease.task, lease.model, lease.teacher, recipe
