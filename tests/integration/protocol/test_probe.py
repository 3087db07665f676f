"""The first lease of a study is its probe: nothing is spent until a worker has begun a trial, and what hinders it is told."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from service.storage import turn
from service.use_cases import leases, studies
from tests.support.bell import listening
from tests.support.fast_path import FastService
from tests.support.protocol import Service, a_claim
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.leases import Failed, Lease, Report, Reports
from trimtab.contract.records import Probe
from trimtab.contract.studies import Study
from trimtab.contract.trials import FailureKind

NO_FOLDER = "/data/pets: there is no such folder on this worker"


def shown(service: Service, name: str = "digits") -> Study:
    return studies.read(service.context, name)


def cannot(
    service: Service, lease: Lease, error: FailureKind = "data_missing", why: str = NO_FOLDER
) -> str:
    """The lease's holder lacks what the study names; what the trial becomes."""
    failed = Failed(error=error, message=why, retryable=error == "data_missing")
    return service.settle(lease, failed)


def trials(service: Service) -> list[tuple[int, str, int, int]]:
    rows = service.rows(
        "SELECT number, state, crashes, fence FROM trimtab.trials ORDER BY number"
    )
    return [(row.number, row.state, row.crashes, row.fence) for row in rows]


def test_until_a_worker_has_begun_one_trial_of_a_study_nobody_else_gets_one(
    either: Service,
) -> None:
    either.study(probed=False, priority=900)
    either.study("other")
    probe = either.lease(prober := either.worker(capacity=4))
    assert probe.study == "digits"
    # The others serve other studies meanwhile; so does the prober, but for claims beside its own trial.
    assert [either.lease().study for _ in range(2)] == ["other"] * 2
    assert either.claim(prober, beside="digits") == ()
    assert either.report(probe, 0.5) == "continue"
    assert either.lease().study == "other"
    either.begin(probe)
    assert [either.lease().study for _ in range(3)] == ["digits"] * 3
    assert trials(either)[0] == (0, "running", 0, 1)
    assert broken(either.context.database) == {}


def test_what_the_first_epoch_took_is_told_for_an_estimate(either: Service) -> None:
    either.study(probed=False)
    either.prune(either.lease())
    lease = either.lease()
    assert shown(either).probe is None
    for step, metrics in enumerate([{"seconds": 2.5, "memory_bytes": 2e9}, {"seconds": 1.5}]):
        batch = Reports(reports=(Report(step=step, value=0.5, metrics=metrics),))
        leases.report(either.context, lease.lease_id, batch)
    assert shown(either).probe == Probe(epoch_s=2.5, memory_bytes=2_000_000_000)


def test_a_probe_that_ends_makes_way_for_the_next_one(either: Service) -> None:
    either.study(probed=False)
    ends: list[Callable[[Lease], object]] = [
        either.drain,
        lambda lease: either.fail(lease, "oom"),
        either.prune,
    ]
    for end in ends:
        end(either.lease())
        assert either.claim(either.worker()) != ()
        assert either.claim(either.worker()) == ()
        either.expire()
        either.clock.advance(300)


@pytest.mark.parametrize("is_queued", [False, True])
def test_of_claims_at_once_one_gets_the_probe(replicas: Replicas, is_queued: bool) -> None:
    one = replicas.one
    for round_ in range(5):
        one.study(name := f"study-{round_}", probed=False, budget={"trials": 8})
        if is_queued:
            # One claim takes it while the others propose.
            one.drain(one.lease())
        workers = [one.worker() for _ in range(4)]
        got = at_once(
            *(
                lambda on=on, worker=worker: on.claim(worker)
                for on, worker in zip(replicas.alternate(4), workers, strict=True)
            )
        )
        (probe,) = [lease for leases in got for lease in leases]
        assert probe.study == name
        studies.cancel(one.context, name)
    replicas.assert_intact()


def test_of_claims_that_are_looked_at_together_one_gets_the_probe(fast: FastService) -> None:
    fast.study(probed=False, budget={"trials": 8})
    answers = fast.together(*(fast.fast_path.claim(a_claim(fast.worker())) for _ in range(4)))
    assert sorted(len(answer.leases) for answer in answers) == [0, 0, 0, 1]
    assert trials(fast) == [(0, "running", 0, 1)]


def test_whoever_waits_is_woken_by_a_probe_that_has_passed_and_by_a_worker_set_aside(
    service: Service,
) -> None:
    service.study(probed=False)
    lacks, has = service.lease(), service.worker()
    with listening(service) as rings:
        cannot(service, lacks)
        assert rings() > 0
        probe = service.lease(has)
        assert rings() == 0
        service.begin(probe)
        assert rings() == 1
        service.begin(probe)
        assert rings() == 0


@pytest.mark.parametrize("error", ["data_missing", "user_error"])
def test_a_path_that_no_worker_has_costs_nothing_and_blocks_the_study(
    either: Service, error: FailureKind
) -> None:
    either.study(probed=False, budget={"trials": 3, "wall_time_s": 100.0})
    one = either.worker()
    probe = either.lease(one)
    either.clock.advance(50)
    assert cannot(either, probe, error) == "queued"
    assert trials(either) == [(0, "queued", 0, 1)]
    told = shown(either)
    assert (told.state, told.blocked, told.trials_created) == ("active", True, 1)
    (listed,) = studies.page(either.context, before=None, size=9)[0].studies
    assert listed.blocked
    assert str(told.problem).startswith(
        f"No worker can serve the study. Worker tester: {NO_FOLDER}\n"
    )
    assert "trimtab study resume digits" in str(told.problem)
    (clock,) = either.rows("SELECT active_s, active_since FROM trimtab.studies")
    assert tuple(clock) == (0, None)
    # However long it waits.
    either.clock.advance(1000)
    either.sweep()
    assert either.claim(one) == ()
    assert shown(either).state == "active"
    resumed = studies.resume(either.context, "digits")
    assert (resumed.blocked, resumed.problem, resumed.set_aside) == (False, None, ())
    again = either.lease(one)
    assert (again.trial_number, again.fence) == (0, 2)
    either.begin(again)
    assert either.complete(again, 0.5) == "completed"
    assert broken(either.context.database) == {}


def test_workers_that_differ_are_told_apart(either: Service) -> None:
    either.study(probed=False)
    lacks, has = either.worker(), either.worker()
    cannot(either, either.lease(lacks))
    told = shown(either)
    assert (told.blocked, told.problem) == (False, None)
    assert [one.problem for one in told.set_aside] == [NO_FOLDER]
    assert either.claim(lacks) == ()
    probe = either.lease(has)
    assert probe.trial_number == 0
    either.begin(probe)
    # After the probe too, and the clock of the study goes on as long as somebody trains.
    third = either.lease(other := either.worker())
    cannot(either, third)
    assert either.claim(other) == ()
    assert either.value("SELECT active_since IS NOT NULL FROM trimtab.studies")
    assert shown(either).blocked is False
    # The one that has it goes away: it was the last.
    either.expire()
    either.clock.advance(300)
    for worker in (lacks, other):
        either.claim(worker)
    assert shown(either).blocked


def test_a_worker_set_aside_for_one_study_serves_those_behind_it(either: Service) -> None:
    either.study(probed=False, priority=900)
    either.study("other")
    one = either.worker()
    cannot(either, either.lease(one))
    assert either.lease(one).study == "other"


def test_a_worker_set_aside_for_more_studies_than_a_look_lists_serves_those_behind_them(
    either: Service,
) -> None:
    one = either.worker()
    for number in range(50):
        either.study(f"study-{number}", priority=900)
    either.rows(
        """INSERT INTO trimtab.set_aside (study_id, worker_id, problem)
           SELECT study_id, :worker, 'no such folder' FROM trimtab.studies RETURNING 1""",
        worker=one,
    )
    either.study("other")
    assert either.lease(one).study == "other"


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_worker_set_aside_between_two_looks_of_a_claim_gets_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_queued: bool
) -> None:
    service.study()
    if is_queued:
        service.drain(service.lease())
    one, list_candidates = service.worker(), turn.candidates

    def list_and_set_aside(connection: Connection, **given: Any) -> list[turn.Candidate]:
        listed = list_candidates(connection, **given)
        service.rows(
            """INSERT INTO trimtab.set_aside (study_id, worker_id, problem)
               SELECT study_id, :worker, 'no such folder' FROM trimtab.studies
               ON CONFLICT DO NOTHING RETURNING 1""",
            worker=one,
        )
        return listed

    monkeypatch.setattr(turn, "candidates", list_and_set_aside)
    assert service.claim(one) == ()


def test_a_final_evaluation_that_a_worker_cannot_do_waits_for_another(either: Service) -> None:
    either.study(budget={"trials": 1})
    one = either.worker()
    either.complete(either.lease(one), 0.5)
    final = either.lease(one)
    assert cannot(either, final) == "queued"
    assert (shown(either).state, shown(either).blocked) == ("finalising", True)
    other: UUID = either.worker()
    assert shown(either).blocked is False
    final = either.lease(other)
    assert (final.kind, final.fence) == ("final", 2)
    either.complete_final(final)
    assert shown(either).state == "done"


def test_a_worker_that_lacks_the_path_is_not_one_that_fails_everything(
    service: Service,
) -> None:
    lacks, has = service.worker(), service.worker()
    for number in range(4):
        service.study(f"study-{number}", budget={"trials": 9})
        service.complete(service.lease(has), 0.5)
        cannot(service, service.lease(lacks))
    assert service.rows("SELECT 1 FROM trimtab.workers WHERE state = 'quarantined'") == []


def test_a_cancelled_study_does_not_keep_a_trial_that_a_worker_cannot_serve(
    either: Service,
) -> None:
    either.study(probed=False)
    probe = either.lease()
    studies.cancel(either.context, "digits")
    assert cannot(either, probe) == "cancelled"
    assert shown(either).blocked is False
    assert broken(either.context.database) == {}
