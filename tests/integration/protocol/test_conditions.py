"""Conditional spaces through claims: a trial has its active values alone, in its lease, its rows and Optuna's tables."""

from typing import Any

import optuna
import pytest

from service.storage.optuna_view import cached
from service.use_cases import enqueuing, studies, trials
from tests.integration.protocol.test_freeze_thaw import train
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from trimtab.contract.problems import Invalid

SPACE: dict[str, Any] = {
    "optimizer": {"kind": "choices", "choices": ["sgd", "adamw"]},
    "learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "momentum": {"kind": "float", "low": 0.5, "high": 0.8, "when": {"optimizer": "sgd"}},
}
ARMS = {
    "sgd": {"optimizer", "learning_rate", "momentum"},
    "adamw": {"optimizer", "learning_rate"},
}


def begin(service: Service, trials: int = 16, **changes: Any) -> None:
    finish = {"refit": False, "ensemble": 1}
    service.study(
        space=SPACE, fixed={"epochs": 12}, budget={"trials": trials}, finish=finish, **changes
    )


@pytest.mark.parametrize("pruner", ["none", "freeze_thaw"])
def test_trials_have_their_active_values_alone_on_every_way(
    either: Service, pruner: str
) -> None:
    begin(either, search={"sampler": "gp", "pruner": pruner, "known_recipes": True})
    worker = either.worker()
    while (leases := either.claim(worker)) and leases[0].kind == "trial":
        (lease,) = leases
        assert set(lease.hyperparameters) == ARMS[str(lease.hyperparameters["optimizer"])]
        if lease.recipe.optimizer == "adamw":
            assert lease.recipe.momentum == 0.9  # the default: no trial of adamw has one
        train(either, lease)
    told = trials.page(either.context, "digits", after=None, size=100, state=None).trials
    assert len(told) == 16
    assert {one.proposed_by for one in told} >= {"known_recipe:warm_cosine", "prior", "gp"}
    shown = optuna.load_study(study_name="digits", storage=cached(either.context.database))
    assert [one.params for one in shown.trials] == [dict(one.hyperparameters) for one in told]
    assert {str(one.params["optimizer"]) for one in shown.trials} == {"sgd", "adamw"}
    best = studies.best(either.context, "digits").trial
    assert set(best.hyperparameters) == ARMS[str(best.hyperparameters["optimizer"])]
    assert broken(either.context.database) == {}


def test_a_configuration_that_is_added_has_what_is_active_and_may_give_nothing_else(
    service: Service,
) -> None:
    begin(service)
    for values in ({"momentum": 0.6}, {"momentum": 0.6, "optimizer": "adamw"}):
        with pytest.raises(Invalid) as raised:
            enqueuing.enqueue(service.context, "digits", values, None)
        (fault,) = raised.value.errors
        assert (fault.pointer, fault.code) == ("/values/momentum", "inactive")
        assert "only with optimizer: sgd" in fault.message
    enqueuing.enqueue(service.context, "digits", {"optimizer": "adamw"}, None)
    enqueuing.enqueue(service.context, "digits", {"optimizer": "sgd", "momentum": 0.6}, None)
    found = [trials.read(service.context, "digits", n).hyperparameters for n in (0, 1)]
    assert [set(values) for values in found] == [ARMS["adamw"], ARMS["sgd"]]
    assert found[1]["momentum"] == 0.6
