"""Which trials one runner may train at a time: those whose heads alone learn, each in its own way, on the same features."""

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
"""Hyperparameters that change how a head learns, and nothing of what it is or learns from."""


def is_likely_to_share(lease: Lease) -> bool:
    """Tell whether the other trials of its study are likely to be alike: what is searched is free."""
    return lease.kind == "trial" and lease.hyperparameters.keys() <= HEAD_ONLY


def may_share_runner(one: Lease, other: Lease) -> bool:
    """Tell whether both may be trained together, where one of them takes company at all."""
    return _of_all(one) == _of_all(other) and not one.recipe.unfreeze_every


def _of_all(lease: Lease) -> tuple[object, ...]:
    recipe = lease.recipe.model_dump(exclude=set(HEAD_ONLY))
    return lease.kind, lease.task, lease.model, lease.teacher, recipe
