"""The rule which trials may share a runner: those that differ only in how their heads learn, on the same features."""

from trimtab.contract.leases import Lease

HEAD_ONLY = frozenset(
    {
        "optimizer",
        "momentum",
        "learning_rate",
        "head_learning_rate",
        "weight_decay",
        "batch_size",
        "epochs",
        "schedule",
        "step_epochs",
        "step_factor",
        "warmup_epochs",
        "clip_norm",
        "ema_decay",
        "swa_epochs",
        "early_stopping_patience",
        "early_stopping_min_gain",
    }
)
"""The hyperparameters that change how a head learns, but neither its shape nor the features that it learns from."""


def is_likely_to_share(lease: Lease) -> bool:
    """Tell whether other trials of a lease's study are likely to share its runner, by what the study searches."""
    # Asked before the trial starts: a claim for a group costs a request, which is wasted where no trial can join.
    return lease.kind == "trial" and lease.hyperparameters.keys() <= HEAD_ONLY


def may_share_runner(one: Lease, other: Lease) -> bool:
    """Tell whether one runner may train both trials at a time, provided that it has opened a group for one of them."""
    # Gradual unfreezing trains more than the head from some epoch on, so that the features change.
    return _of_all(one) == _of_all(other) and not one.recipe.unfreeze_every


def _of_all(lease: Lease) -> tuple[object, ...]:
    recipe = lease.recipe.model_dump(exclude=set(HEAD_ONLY))
    return lease.kind, lease.task, lease.model, lease.teacher, recipe
