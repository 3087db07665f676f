"""Of which trial a proposal is: the number's own where one worker asks, the claim's own where several do."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from service.sampling.asking import Draws
from service.sampling.distributions import distributions
from service.sampling.study import ActiveStudy, seed_of
from service.storage import history
from service.use_cases.fast import claims
from tests.support.fast_path import FastService
from tests.support.protocol import Service, a_claim
from tests.support.races import Replicas, at_once
from trimtab.contract.leases import Lease, Leases
from trimtab.contract.search_space import Scalar

RANDOM = {"sampler": "random", "pruner": "none", "seed": 7}
TPE = {"sampler": "tpe", "pruner": "none", "seed": 7, "initial_trials": 0}


def its_own(service: Service, number: int) -> dict[str, Scalar]:
    """What the trial of this number gets whoever claims it."""
    document = service.context.documents.known(1)
    assert document is not None
    return Draws(distributions(document.space)).draw(seed_of(7, f"trial {number}"))


def are_their_own(service: Service, leases: Sequence[Lease]) -> list[bool]:
    return [
        lease.hyperparameters == its_own(service, lease.trial_number)
        for lease in sorted(leases, key=lambda lease: lease.trial_number)
    ]


def test_the_sampler_hears_how_many_rows_values_are_measured_on(service: Service) -> None:
    service.study(probed=False)
    with service.context.database.statements() as connection:
        assert history.changes(connection, 1, None).validation_rows is None
    lease = service.lease()
    service.begin(lease)
    with service.context.database.statements() as connection:
        found = history.changes(connection, 1, None)
    assert (found.validation_rows, [one.number for one in found.trials]) == (20, [0])


def test_one_worker_gets_each_trial_numbers_own_proposal(either: Service) -> None:
    either.study(search=RANDOM)
    worker = either.worker(capacity=3)
    leases = [either.lease(worker) for _ in range(3)]
    assert are_their_own(either, leases) == [True] * 3


def test_slots_that_claim_at_the_same_moment_get_them_too(fast: FastService) -> None:
    fast.study(search=RANDOM, budget={"trials": 100})
    worker = fast.worker(capacity=5)
    leases = [fast.lease(worker)]
    found = fast.together(*(fast.fast_path.claim(a_claim(worker)) for _ in range(4)))
    leases += [lease for one in found if isinstance(one, Leases) for lease in one.leases]
    assert len(leases) == 5
    assert are_their_own(fast, leases) == [True] * 5


def test_where_other_workers_have_trials_a_proposal_is_the_claims_own(either: Service) -> None:
    either.study(search=RANDOM)
    leases = [either.lease() for _ in range(3)]
    assert are_their_own(either, leases) == [True, False, False]


def test_workers_that_claim_at_the_same_moment_are_never_given_twins(fast: FastService) -> None:
    fast.study(search=RANDOM, budget={"trials": 100})
    fast.fail(fast.lease())
    workers = [fast.worker() for _ in range(6)]
    found = fast.together(*(fast.fast_path.claim(a_claim(worker)) for worker in workers))
    leases = [lease for one in found if isinstance(one, Leases) for lease in one.leases]
    assert len({str(lease.hyperparameters) for lease in leases}) == len(leases) == 6


def test_a_number_that_another_replica_has_taken_meanwhile_is_not_proposed_twice(
    replicas: Replicas,
) -> None:
    replicas.one.study(search=RANDOM, budget={"trials": 40})
    for _ in range(10):
        workers = replicas.one.worker(), replicas.one.worker()
        leases = at_once(
            lambda workers=workers: replicas.one.lease(workers[0]),
            lambda workers=workers: replicas.two.lease(workers[1]),
        )
        assert len({str(lease.hyperparameters) for lease in leases}) == 2
        for lease in leases:
            replicas.one.fail(lease)


def test_proposals_that_wait_for_one_another_are_made_in_one_turn(fast: FastService) -> None:
    fast.study(search=TPE, budget={"trials": 100})
    fast.fail(fast.lease())
    workers = [fast.worker() for _ in range(6)]
    with patch.object(claims, "entered", wraps=claims.entered) as turns:
        found = fast.together(*(fast.fast_path.claim(a_claim(worker)) for worker in workers))
    leases = [lease for one in found if isinstance(one, Leases) for lease in one.leases]
    assert len({str(lease.hyperparameters) for lease in leases}) == len(leases) == 6
    # Five were looked up together; the first of them has a turn of its own, if nobody has one just then.
    assert max(len(call.args[0]) for call in turns.call_args_list) >= 4


def test_proposals_of_a_turn_that_fails_are_forgotten(fast: FastService) -> None:
    fast.study(search=TPE, budget={"trials": 100})
    fast.fail(fast.lease())
    propose, drop, made = ActiveStudy.propose, ActiveStudy.drop, list[Any]()

    def fails_at_the_fourth(*given: Any, **named: Any) -> Any:
        if len(made) == 3:
            raise ZeroDivisionError
        made.append(propose(*given, **named))
        return made[-1]

    workers = [fast.worker() for _ in range(4)]
    with (
        patch.object(ActiveStudy, "propose", fails_at_the_fourth),
        patch.object(ActiveStudy, "drop", autospec=True, side_effect=drop) as dropped,
    ):
        fast.together(*(fast.fast_path.claim(a_claim(worker)) for worker in workers))
    # The first one had a turn of its own, and may be stored.
    forgotten = [call.args[1] for call in dropped.call_args_list]
    assert [made[place][1] in forgotten for place in (1, 2)] == [True, True]
