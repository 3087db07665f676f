"""`parallel`: how many trials of a study are leased at a time, by whichever path and replica they are claimed."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from service.storage import trials
from service.storage.leases import LeaseRow
from service.use_cases import editing, studies
from tests.support.bell import listening
from tests.support.fast_path import on_fast_path
from tests.support.protocol import Service
from tests.support.races import Replicas, at_once
from tests.support.until import until
from trimtab.contract.edits import StudyEdit
from trimtab.contract.problems import StudyNotActive

ROUNDS = 8
WORKERS = 6
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def edit(service: Service, parallel: int | str, name: str = "digits") -> None:
    changes = StudyEdit.model_validate({"parallel": parallel})
    editing.edit(service.context, name, changes)


def may_begin(service: Service) -> bool:
    return bool(service.claim(service.worker()))


def running(service: Service) -> int:
    return service.value("SELECT count(*) FROM trimtab.trials WHERE state = 'running'")


def test_no_more_trials_are_leased_at_a_time_and_a_place_that_is_free_is_given_again(
    either: Service,
) -> None:
    either.study(budget={"trials": 9}, parallel=2)
    first, second = either.lease(), either.lease()
    assert not may_begin(either)
    either.complete(first, 0.5)
    third = either.lease()
    assert not may_begin(either)
    either.prune(second)
    either.complete(third, 0.6)
    assert may_begin(either)


def test_a_trial_that_waits_to_be_tried_again_needs_a_place(either: Service) -> None:
    either.study(budget={"trials": 9}, parallel=1)
    first = either.lease()
    either.drain(first)
    again = either.lease()
    assert again.trial_number == first.trial_number
    assert not may_begin(either)


def test_what_a_study_may_not_have_serves_the_next_study(either: Service) -> None:
    either.study("first", parallel=1, priority=900)
    either.study("second")
    assert [either.lease().study for _ in range(3)] == ["first", "second", "second"]


def test_trials_of_a_group_each_take_a_place(either: Service) -> None:
    either.study(parallel=2, budget={"trials": 9})
    worker = either.worker(capacity=4)
    either.lease(worker)
    assert [one.study for one in either.claim(worker, beside="digits")] == ["digits"]
    assert either.claim(worker, beside="digits") == ()


def test_refits_and_the_final_evaluation_take_no_place(service: Service) -> None:
    service.study(parallel=1, budget={"trials": 4}, finish={"refit": True, "ensemble": 2})
    for value in (0.4, 0.5):
        service.complete(service.lease(), value)
    refits = [service.lease(), service.lease()]
    assert [one.kind for one in refits] == ["refit", "refit"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_claims_at_once_on_two_replicas_take_no_more_places_than_there_are(
    replicas: Replicas, sampler: str
) -> None:
    for round_ in range(ROUNDS):
        name = f"digits-{round_}"
        replicas.one.study(name, budget={"trials": 50}, parallel=2, search={"sampler": sampler})
        with on_fast_path(replicas.one) as one, on_fast_path(replicas.two) as two:
            workers = [one.worker() for _ in range(WORKERS)]
            claims = [
                lambda on=on, worker=worker: on.claim(worker)
                for on, worker in zip([one, two] * WORKERS, workers, strict=False)
            ]
            got = [lease for leases in at_once(*claims) for lease in leases]
        assert len(got) == running(replicas.one) == 2
        replicas.one.drain(got[0])
        replicas.two.drain(got[1])
        edit(replicas.two, 1, name)
        # Both wait to be claimed again now, beside all that may yet be proposed.
        again = at_once(*(lambda on=on: on.claim(on.worker()) for on in replicas.alternate(4)))
        assert sum(map(len, again)) == running(replicas.one) == 1
        studies.cancel(replicas.one.context, name)
        for leases in again:
            for lease in leases:
                replicas.one.prune(lease)
    replicas.assert_intact()


def test_a_search_that_pauses_takes_up_no_more_than_have_a_place(service: Service) -> None:
    pruner = {"kind": "asha", "first_rung": 1, "eta": 2}
    service.study(
        parallel=1,
        fixed={"epochs": 9},
        search={"sampler": "random", "pruner": pruner},
        budget={"trials": 8},
    )
    for value in (0.6, 0.5):
        lease = service.lease()
        assert not may_begin(service)
        assert service.report(lease, value) == "pause"
        service.checkpoint(lease, 0)
        service.give_back_paused(lease)
    taken_up = service.lease()
    assert (taken_up.trial_number, taken_up.fence) == (0, 2)
    assert not may_begin(service)


def test_the_bell_rings_for_a_place_that_is_free(service: Service) -> None:
    service.study("limited", parallel=1, budget={"trials": 9})
    limited = service.lease()
    service.study("unlimited", budget={"trials": 9})
    unlimited = service.lease()
    with listening(service) as rings:
        service.prune(unlimited)
        assert rings() == 0
        service.prune(limited)
        assert rings() > 0


def test_an_edit_holds_at_once_on_a_replica_that_knows_the_older_document(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    one.study(budget={"trials": 9})
    with on_fast_path(two) as fast:
        fast.lease()
        edit(one, 2)
        assert fast.lease().trial_number == 1
        assert not may_begin(fast)
        assert not may_begin(two)
        edit(one, "none")
        assert may_begin(fast)
    assert studies.read(two.context, "digits").document.parallel is None


def test_fewer_places_than_trials_run_end_none_of_them(either: Service) -> None:
    either.study(budget={"trials": 9})
    leases = [either.lease() for _ in range(3)]
    edit(either, 1)
    assert [either.report(lease, 0.5) for lease in leases] == ["continue"] * 3
    for lease in leases[:2]:
        either.complete(lease, 0.5)
    assert not may_begin(either)
    either.complete(leases[2], 0.5)
    assert may_begin(either)


def test_a_claim_that_looked_before_the_edit_takes_no_place_from_those_after_it(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    one.study(budget={"trials": 9})
    edit(two, 1)
    study_id = studies.study_id(one.context, "digits")
    with ThreadPoolExecutor(1) as pool:
        with two.context.database.transaction() as connection:
            assert trials.start(connection, study_id, a_trial_of(two), in_turn=True)
            # That one has been given the place, and is not to be seen yet.
            looked_before = pool.submit(start, one, study_id)
            until(lambda: looked_before.done() or two.value(_WAITING) > 0)
        assert looked_before.result() is None
    assert running(one) == 1


def start(service: Service, study_id: int) -> LeaseRow | None:
    with service.context.database.statements() as connection:
        return trials.start(connection, study_id, a_trial_of(service))


def a_trial_of(service: Service) -> trials.NewTrial:
    return trials.NewTrial({}, {}, {}, None, service.worker(), uuid4(), 0)


def test_a_study_whose_trials_are_over_takes_no_limit_of_them(service: Service) -> None:
    service.study(budget={"trials": 1})
    service.complete(service.lease(), 0.5)
    with pytest.raises(StudyNotActive, match="its trials are over"):
        edit(service, 2)
