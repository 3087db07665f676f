"""What a study begins with, by both ways of a claim: known recipes and points by number, written into its document."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from sqlalchemy import text

from service.sampling.prior import point_at
from service.storage.engine import Database
from service.use_cases import studies, trials
from tests.support.contexts import a_context
from tests.support.fast_path import FastService
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service, a_claim
from tests.support.races import Replicas, at_once
from trimtab.contract.leases import Lease, Leases
from trimtab.contract.search_space import Scalar

SPACE = {"learning_rate": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True}}
OWN = {"learning_rate": 2e-2}


def begun(service: Service, sampler: str = "tpe", **changes: Any) -> str:
    search = {"known_recipes": True, "initial_trials": 6, "sampler": sampler, "pruner": "none"}
    given: dict[str, Any] = {
        "space": SPACE,
        "search": search,
        "first_trials": [OWN],
        "budget": {"trials": 12},
        "finish": {"refit": False},
    }
    return service.study(**(given | changes))


def point(service: Service, number: int) -> dict[str, Scalar]:
    """What the study's trial of this number is proposed, whoever claims it."""
    document = service.context.documents.known(1)
    assert document is not None
    assert document.starts is not None
    ahead = [*document.first_trials, *(one.values for one in document.starts)]
    return dict(ahead[number]) if number < len(ahead) else point_at(document.space, 0, number)


def are_their_own(service: Service, leases: list[Lease]) -> bool:
    return all(one.hyperparameters == point(service, one.trial_number) for one in leases)


def test_they_are_a_persons_then_the_known_recipes_then_the_priors(either: Service) -> None:
    begun(either)
    worker, leases = either.worker(), list[Lease]()
    for _ in range(8):
        leases.append(either.lease(worker))
        either.complete(leases[-1], 0.5)
    rates = [lease.hyperparameters["learning_rate"] for lease in leases]
    assert rates[:3] == [2e-2, 3e-3, 1e-3]
    assert are_their_own(either, leases[:6])
    told = trials.page(either.context, "digits", after=None, size=8, state=None).trials
    assert [one.proposed_by for one in told] == [
        *("first_trials", "known_recipe:warm_cosine", "known_recipe:fast_head"),
        *("prior", "prior", "prior", "tpe", "tpe"),
    ]
    assert trials.read(either.context, "digits", 1).proposed_by == "known_recipe:warm_cosine"


def test_the_recipe_around_them_is_the_documents_and_stands_in_it(either: Service) -> None:
    begun(either)
    document = studies.read(either.context, "digits").document
    assert document.fixed["label_smoothing"] == 0.1
    assert "label_smoothing" in document.completed
    recipe = either.lease().recipe
    assert (recipe.label_smoothing, recipe.warmup_share, recipe.epochs) == (0.1, 0.1, 4)


def test_several_workers_get_a_point_each_and_a_repeated_claim_the_same(
    either: Service,
) -> None:
    begun(either)
    leases = [either.lease(either.worker()) for _ in range(6)]
    assert [one.trial_number for one in leases] == list(range(6))
    assert are_their_own(either, leases)
    either.complete(leases[0], 0.5)
    worker, claim_id = either.worker(), uuid4()
    once = either.claim(worker, claim_id=claim_id)
    assert either.claim(worker, claim_id=claim_id) == once


def test_claims_at_the_same_moment_are_given_different_ones(fast: FastService) -> None:
    begun(fast)
    leases = [fast.lease()]
    workers = [fast.worker() for _ in range(5)]
    found = fast.together(*(fast.fast_path.claim(a_claim(worker)) for worker in workers))
    leases += [lease for one in found if isinstance(one, Leases) for lease in one.leases]
    assert sorted(one.trial_number for one in leases) == list(range(6))
    assert are_their_own(fast, leases)


def test_claims_at_the_same_moment_are_stored_together(fast: FastService) -> None:
    search = {
        "known_recipes": True,
        "initial_trials": 20,
        "sampler": "random",
        "pruner": "none",
    }
    begun(fast, search=search, budget={"trials": 20})
    fast.lease()
    found = fast.together(*(fast.fast_path.claim(a_claim(fast.worker())) for _ in range(8)))
    leases = [lease for one in found if isinstance(one, Leases) for lease in one.leases]
    assert sorted(one.trial_number for one in leases) == list(range(1, 9))
    started = (
        "SELECT count(DISTINCT xid::text) FROM trimtab.events WHERE kind = 'trial_started'"
    )
    assert fast.value(started) == 1 + 1


def test_two_replicas_give_each_number_once(replicas: Replicas) -> None:
    begun(replicas.one, sampler="random")
    leases: list[Lease] = []
    for _ in range(3):
        workers = replicas.one.worker(), replicas.one.worker()
        leases += at_once(
            lambda workers=workers: replicas.one.lease(workers[0]),
            lambda workers=workers: replicas.two.lease(workers[1]),
        )
    assert sorted(one.trial_number for one in leases) == list(range(6))
    assert are_their_own(replicas.one, leases)


def test_a_service_that_was_restarted_goes_on_with_the_next(
    service: Service, database: Database, tmp_path: Path
) -> None:
    begun(service)
    leases = [service.lease(service.worker())]
    for _ in range(5):
        later = Service(a_context(database, tmp_path), service.clock)
        leases.append(later.lease(service.worker()))
    assert [one.trial_number for one in leases] == list(range(6))
    assert are_their_own(service, leases)


def test_a_study_that_was_stored_by_a_release_without_them_goes_on_as_it_was(
    service: Service, database: Database, tmp_path: Path
) -> None:
    begun(service)
    stored = json.loads(service.value("SELECT CAST(document AS text) FROM trimtab.studies"))
    for name in ("auto_space", "completed", "first_trials", "starts"):
        del stored[name]
    for name in ("initial_trials", "known_recipes"):
        del stored["search"][name]
    del stored["space"]["learning_rate"]["prior"]
    del stored["space"]["learning_rate"]["prior_spread"]
    stored["fixed"] = {"epochs": 4}
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE trimtab.studies SET document = CAST(:document AS json)"),
            {"document": json.dumps(stored)},
        )
    later = Service(a_context(database, tmp_path), service.clock)
    lease = later.lease(service.worker())
    assert lease.recipe.label_smoothing == 0.0
    assert lease.hyperparameters not in [OWN, {"learning_rate": 3e-3}]
    assert trials.read(later.context, "digits", 0).proposed_by is None


def test_optuna_keeps_the_plain_distributions_and_shows_what_proposed_a_trial(
    service: Service, database_url: str
) -> None:
    space = {"learning_rate": SPACE["learning_rate"] | {"prior": 1e-3, "prior_spread": 0.3}}
    begun(service, space=space)
    service.complete(service.lease(), 0.5)
    storage = storage_on(database_url)
    (trial,) = optuna.load_study(study_name="digits", storage=storage).get_trials()
    storage.engine.dispose()
    assert trial.distributions == {
        "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    }
    assert trial.params == OWN
    assert trial.user_attrs == {"proposed_by": "first_trials"}
