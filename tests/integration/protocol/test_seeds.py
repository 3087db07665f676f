"""Refits with several seeds: a lease for each, and the final lease has all that came of them."""

from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import text

from service.storage import schema, workers
from service.use_cases import editing, studies
from tests.integration.protocol.test_refits import VALUES, searched, study_of, trained
from tests.integration.protocol.test_schema import schema_config
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.edits import BudgetEdit, StudyEdit
from trimtab.contract.finish import Refits
from trimtab.contract.leases import Completed, Lease
from trimtab.contract.problems import DataChanged, LeaseLost


def leased(service: Service, count: int) -> dict[tuple[int, int], Lease]:
    """Leases of all refits, each for a worker of its own, by the trial's number and the place of the seed."""
    leases = [service.lease() for _ in range(count)]
    assert {lease.kind for lease in leases} == {"refit"}
    return {(lease.trial_number, lease.seed_index): lease for lease in leases}


def refits(lease: Lease) -> list[tuple[int, list[int]]]:
    """The members of a final lease, each with the steps that name its refits' states."""
    return [(one.trial_number, [state.step for state in one.refits]) for one in lease.members]


def test_each_of_the_best_trials_is_refitted_with_each_seed_the_first_its_own(
    either: Service,
) -> None:
    trials = searched(either, seeds=2)
    assert study_of(either).refits == Refits(total=4)
    leases = leased(either, 4)
    assert set(leases) == {(1, 0), (1, 1), (2, 0), (2, 1)}
    for (number, place), lease in leases.items():
        assert (lease.seed == trials[number].seed) == (place == 0)
        assert (lease.recipe, lease.fence) == (trials[number].recipe, 1)
        assert [one.trial_number for one in lease.members] == [number]
    assert len({lease.seed for lease in leases.values()}) == 4
    for (number, place), lease in leases.items():
        assert either.claim(either.worker()) == ()
        trained(either, lease, 20 + 2 * number + place)
    final = either.lease()
    assert (final.kind, final.seed_index) == ("final", 0)
    assert refits(final) == [(1, [22, 23]), (2, [24, 25])]
    assert broken(either.context.database) == {}


def test_the_budget_pays_each_seed(either: Service) -> None:
    finish = {"refit": True, "ensemble": 2, "seeds": 3}
    either.study(budget={"trials": 10, "wall_time_s": 100}, finish=finish)
    (summary,) = studies.page(either.context, before=None, size=9)[0].studies
    assert (summary.trials, summary.refits) == (4, 6)
    assert either.value("SELECT wall_time_s FROM trimtab.studies") == 40


def test_a_seed_whose_lease_expires_resumes_from_its_own_checkpoint(service: Service) -> None:
    searched(service, ensemble=1, seeds=2)
    leases = leased(service, 2)
    own, lost = leases[1, 0], leases[1, 1]
    for lease, step in ((own, 20), (lost, 30)):
        service.checkpoint(lease, step)
    service.clock.advance(50)
    assert service.heartbeat(own) == "continue"
    service.clock.advance(30)
    assert service.sweep() == 1
    with pytest.raises(LeaseLost):
        service.heartbeat(lost)
    service.clock.advance(5)
    again = service.lease()
    assert (again.seed_index, again.seed, again.fence) == (1, lost.seed, 2)
    assert again.resume == service.state(30)
    trained(service, own, 21)
    trained(service, again, 31)
    assert refits(service.lease()) == [(1, [21, 31])]
    assert broken(service.context.database) == {}


def test_a_seed_that_fails_for_good_is_done_without(either: Service) -> None:
    searched(either, ensemble=1, seeds=3)
    leases = leased(either, 3)
    assert either.fail(leases[1, 0], "oom") == "failed"
    trained(either, leases[1, 2], 22)
    # What comes of the other seeds is no matter of a refit that still runs.
    assert study_of(either).refits == Refits(total=3, running=1, completed=1, failed=1)
    trained(either, leases[1, 1], 21)
    assert refits(either.lease()) == [(1, [21, 22])]


def test_a_repeated_claim_of_a_seed_is_answered_as_the_first_was(either: Service) -> None:
    searched(either, ensemble=1, seeds=2)
    worker, claim_id = either.worker(), uuid4()
    first = either.lease()
    (second,) = either.claim(worker, claim_id=claim_id)
    trained(either, first, 20)
    assert either.claim(worker, claim_id=claim_id) == (second,)


def test_events_tell_the_further_seed_of_a_refit(service: Service) -> None:
    searched(service, ensemble=1, seeds=2)
    leases = leased(service, 2)
    service.checkpoint(leases[1, 1], 1)
    service.drain(leases[1, 1])
    studies.cancel(service.context, "digits")
    service.fail(leases[1, 0], "cancelled")
    events = service.rows("""
        SELECT kind, fence, body ->> 'seed_index' FROM trimtab.events
        WHERE kind LIKE 'refit%' AND kind <> 'refit_started' ORDER BY id""")
    assert [tuple(event) for event in events] == [
        ("refit_queued", 0, None),
        ("refit_queued", 0, "1"),
        ("refit_checkpointed", 1, "1"),
        ("refit_queued", 1, "1"),
        ("refit_settled", 1, "1"),
        ("refit_settled", 1, None),
    ]


def test_a_seed_on_other_data_is_set_aside_alone(either: Service) -> None:
    searched(either, ensemble=1, seeds=2)
    leases = leased(either, 2)
    with pytest.raises(DataChanged):
        either.begin(leases[1, 1], data_sha256="e" * 64)
    assert either.heartbeat(leases[1, 0]) == "continue"
    told = either.value("SELECT body FROM trimtab.events WHERE kind = 'worker_set_aside'")
    assert (told["lease_kind"], told["trial_number"], told["seed_index"]) == ("refit", 1, 1)
    assert either.lease().seed_index == 1


def test_the_crash_of_a_bad_worker_is_refunded_to_the_seed_that_it_had(
    service: Service,
) -> None:
    searched(service, ensemble=1, seeds=2)
    leases = leased(service, 2)
    for lease in leases.values():
        service.fail(lease, retryable=True)
    crashed = leases[1, 1].lease_id
    with service.context.database.transaction() as connection:
        holder = connection.execute(
            text("SELECT worker_id FROM trimtab.attempts WHERE lease_id = :lease_id"),
            {"lease_id": crashed},
        ).scalar_one()
        assert workers.quarantine(connection, holder, [crashed])
    rows = service.rows(
        "SELECT seed_index, crashes FROM trimtab.trials WHERE kind = 'refit' ORDER BY seed_index"
    )
    assert [tuple(row) for row in rows] == [(0, 1), (1, 0)]


def test_more_budget_refits_the_best_with_each_seed_anew(service: Service) -> None:
    searched(service, ensemble=1, seeds=2)
    for lease in leased(service, 2).values():
        trained(service, lease, 20 + lease.seed_index)
    service.complete_final(service.lease())
    budget = BudgetEdit(trials=len(VALUES) + 3)
    editing.edit(service.context, "digits", StudyEdit(budget=budget))
    assert study_of(service).refits.completed == 0
    service.complete(service.lease(), 0.1)
    again = leased(service, 2)
    assert {key: (lease.fence, lease.resume) for key, lease in again.items()} == {
        (1, 0): (2, None),
        (1, 1): (2, None),
    }
    for (_, place), lease in again.items():
        trained(service, lease, 30 + place)
    assert refits(service.lease()) == [(1, [30, 31])]
    assert broken(service.context.database) == {}


def test_replicas_lease_each_seed_once_and_queue_one_final_lease(replicas: Replicas) -> None:
    searched(replicas.one, seeds=2)
    pairs = [(service, service.worker()) for service in replicas.alternate(4)]
    got = at_once(*(lambda s=s, w=w: s.lease(w) for s, w in pairs))
    assert {(lease.trial_number, lease.seed_index) for lease in got} == {
        (number, place) for number in (1, 2) for place in (0, 1)
    }
    at_once(
        *(
            lambda s=s, lease=lease: s.settle(lease, Completed(value=0.1))
            for (s, _), lease in zip(pairs, got, strict=True)
        )
    )
    finals = "SELECT count(*) FROM trimtab.events WHERE kind = 'final_queued'"
    assert replicas.one.value(finals) == 1
    replicas.assert_intact()


def test_a_study_at_further_seeds_is_evaluated_without_them_by_a_release_that_knows_none(
    service: Service,
) -> None:
    searched(service, ensemble=1, seeds=2)
    leases = leased(service, 2)
    trained(service, leases[1, 0], 20)
    database = service.context.database
    with database.transaction() as connection:
        command.downgrade(schema_config(connection), "0011")
    schema.migrate(database)
    service.sweep()
    assert refits(service.lease()) == [(1, [20])]
