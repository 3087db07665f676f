"""The rule which trials may share a runner: those that differ only in how their heads learn, on the same features."""

from trimtab.contract import hyperparameters
from trimtab.contract.leases import Lease

HEAD_ONLY = hyperparameters.of_scope("head")
"""The hyperparameters that change how a head learns, but neither its shape nor the features that it learns from."""


def is_likely_to_share(lease: Lease) -> bool:
    """Tell whether other trials of a lease's study are likely to share its runner, by what the study searches."""
    # Asked before the trial starts: a claim for a group costs a request, which is wasted where no trial can join.
    return lease.kind == "trial" and lease.hyperparameters.keys() <= HEAD_ONLY


def may_share_runner(one: Lease, other: Lease) -> bool:
    """Tell whether one runner may train both trials at a time, provided that it has opened a group for one of them."""
    # With gradual unfreezing the number of epochs, which may differ, decides how many stages are never trained.
    return _shared(one) == _shared(other) and not one.recipe.unfreeze_every


def _shared(lease: Lease) -> tuple[object, ...]:
    """All that must be the same for both."""
    recipe = lease.recipe.model_dump(exclude=set(HEAD_ONLY))
    return lease.kind, lease.task, lease.model, lease.teacher, recipe
