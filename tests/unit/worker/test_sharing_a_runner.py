"""Which trials one runner may train at a time."""

from typing import Any

import pytest

from tests.support.leases import a_lease
from tests.support.recipes import another
from trimtab.contract.leases import Lease
from trimtab.contract.recipe import Recipe
from worker.grouping import HEAD_ONLY, is_likely_to_share, may_share_runner

PROBE = Recipe(frozen_stages=1000)


def _lease(recipe: Recipe = PROBE, **changes: Any) -> Lease:
    return a_lease(recipe=recipe.model_dump(), **changes)


def test_what_may_differ_is_how_a_head_learns() -> None:
    assert {
        "optimizer",
        "momentum",
        "learning_rate",
        "head_learning_rate",
        "head_factor",
        "weight_decay",
        "batch_size",
        "epochs",
        "schedule",
        "step_epochs",
        "step_factor",
        "warmup_epochs",
        "warmup_share",
        "clip_norm",
        "ema_decay",
        "swa_epochs",
        "early_stopping_patience",
        "early_stopping_min_gain",
    } == HEAD_ONLY


@pytest.mark.parametrize("name", sorted(Recipe.model_fields))
def test_two_trials_share_a_runner_where_they_differ_in_nothing_else(name: str) -> None:
    assert may_share_runner(_lease(), _lease(another(PROBE, name))) == (name in HEAD_ONLY)
    searches = _lease(hyperparameters={name: getattr(another(PROBE, name), name)})
    assert is_likely_to_share(searches) == (name in HEAD_ONLY)


def test_stages_that_thaw_by_the_number_of_epochs_are_not_shared() -> None:
    thawing = PROBE.model_copy(update={"unfreeze_every": 2})
    assert not may_share_runner(_lease(thawing), _lease(thawing))


def test_another_model_or_kind_of_lease_shares_no_runner() -> None:
    assert may_share_runner(_lease(), _lease(trial_number=1, seed=2))
    assert not may_share_runner(_lease(), _lease(kind="final"))
    other = {"backbone": "glyphnet", "weights": "default"}
    assert not may_share_runner(_lease(), _lease(model=other))
