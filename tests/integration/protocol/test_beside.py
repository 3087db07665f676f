"""Claims of a worker that runs trials of a study and can take more of the same: its turn is kept, and theirs of others."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from service.storage import leases as lease_rows
from service.storage import trials
from service.storage.leases import LeaseRow
from service.storage.trials import NewTrial
from service.use_cases import claims, studies
from tests.support.fast_path import FastService
from tests.support.protocol import Service, a_claim
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from tests.support.until import until
from trimtab.contract.leases import Lease
from trimtab.contract.problems import WorkerBusy

RANDOM = {"sampler": "random", "pruner": "none"}
WAIT_FOR_LOCKS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
MANY: dict[str, Any] = {"search": RANDOM, "budget": {"trials": 100}}


def led(
    service: Service, name: str, *, capacity: int = 8, **changes: Any
) -> tuple[UUID, Lease]:
    """A worker that runs the first trial of a new study."""
    service.study(name, **(MANY | changes))
    worker = service.worker(capacity)
    lease = service.lease(worker)
    assert lease.study == name
    return worker, lease


def claims_beside(fast: FastService, workers: Sequence[UUID], study: str) -> list[Any]:
    """A claim of each, all begun at once."""
    requests = [a_claim(worker, beside=study) for worker in workers]
    return fast.together(*(fast.fast_path.claim(request) for request in requests))


def commits(service: Service) -> int:
    """How many transactions started trials."""
    return service.value(
        "SELECT count(DISTINCT xid::text) FROM trimtab.events WHERE kind = 'trial_started'"
    )


def test_a_worker_fills_itself_with_trials_of_the_study_that_it_runs(either: Service) -> None:
    worker, first = led(either, "digits")
    others = [either.claim(worker, beside="digits") for _ in range(7)]
    numbers = [lease.trial_number for leases in ([first], *others) for lease in leases]
    assert numbers == list(range(8))
    with pytest.raises(WorkerBusy):
        either.claim(worker, beside="digits")
    assert broken(either.context.database) == {}


def test_a_claim_for_several_beside_a_study_keeps_its_turn_for_each_of_them(
    either: Service,
) -> None:
    either.study("other", budget={"trials": 1})
    other = either.lease()
    worker, _ = led(either, "digits")
    assert len(either.claim(worker, capacity=3, beside="digits")) == 3
    either.drain(other)
    assert either.claim(worker, capacity=3, beside="digits") == ()


def test_when_it_is_another_studys_turn_a_claim_beside_gets_nothing(either: Service) -> None:
    worker, _ = led(either, "digits", priority=1)
    either.study("other", **(MANY | {"priority": 2}))
    assert either.claim(worker, beside="digits") == ()
    (lease,) = either.claim(worker)
    assert lease.study == "other"


def test_the_turn_passes_on_with_the_trials_that_other_workers_run(either: Service) -> None:
    worker, _ = led(either, "digits")
    assert either.lease().study == "digits"
    either.clock.advance(1)
    either.study("other", **MANY)
    assert either.claim(worker, beside="digits") == ()
    other = either.lease()
    assert other.study == "other"
    (lease,) = either.claim(worker, beside="digits")
    assert lease.study == "digits"


def test_what_the_worker_runs_itself_does_not_cost_its_study_the_turn(either: Service) -> None:
    worker, _ = led(either, "digits")
    either.clock.advance(1)
    either.study("younger", **MANY)
    got = [either.claim(worker, beside="digits") for _ in range(7)]
    assert [len(leases) for leases in got] == [1] * 7
    assert either.lease().study == "younger"


def test_a_study_without_work_hands_its_turn_to_the_next(either: Service) -> None:
    worker, _ = led(either, "digits")
    either.study("spent", priority=1000, budget={"trials": 1})
    assert either.claim(worker, beside="digits") == ()
    assert either.lease().study == "spent"
    assert len(either.claim(worker, beside="digits")) == 1


def test_trials_that_nobody_may_have_any_more_do_not_hold_the_turn(either: Service) -> None:
    either.study("over", priority=1000, budget={"trials": 1, "wall_time_s": 100})
    either.drain(either.lease())
    either.clock.advance(101)
    worker, _ = led(either, "digits")
    assert len(either.claim(worker, beside="digits")) == 1


@pytest.mark.parametrize("change", [studies.stop, studies.pause, studies.cancel])
def test_beside_a_study_that_gives_out_nothing_more_there_is_nothing(
    either: Service, change: Any
) -> None:
    worker, _ = led(either, "digits")
    change(either.context, "digits")
    assert either.claim(worker, beside="digits") == ()


def test_beside_a_study_that_is_not_there_is_nothing(either: Service) -> None:
    worker, lease = led(either, "digits", budget={"trials": 1})
    assert either.claim(worker, beside="imagined") == ()
    either.fail(lease)
    studies.delete(either.context, "digits")
    assert either.claim(worker, beside="digits") == ()


def test_the_budget_is_exact_beside_a_study(either: Service) -> None:
    worker, _ = led(either, "digits", budget={"trials": 3})
    got = [either.claim(worker, beside="digits") for _ in range(4)]
    assert [len(leases) for leases in got] == [1, 1, 0, 0]


def test_a_queued_trial_is_given_like_any_other(either: Service) -> None:
    worker, _ = led(either, "digits")
    either.drain(either.lease())
    (lease,) = either.claim(worker, beside="digits")
    assert (lease.trial_number, lease.fence) == (1, 2)


def test_the_evaluation_of_a_winner_is_nobodys_company(either: Service) -> None:
    worker, lease = led(either, "digits", budget={"trials": 1})
    either.complete(lease, 0.5)
    assert either.claim(worker, beside="digits") == ()
    (final,) = either.claim(worker)
    assert final.kind == "final"


def test_a_repeated_claim_gets_its_lease_though_the_turn_is_over(either: Service) -> None:
    worker, _ = led(either, "digits")
    claim = uuid4()
    got = either.claim(worker, claim_id=claim, beside="digits")
    either.study("other", priority=1000)
    assert either.claim(worker, claim_id=claim, beside="digits") == got
    assert len(got) == 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_claims_of_one_worker_at_once_are_served_together(
    fast: FastService, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    worker, _ = led(fast, "digits", search=RANDOM | {"sampler": sampler})
    before = commits(fast)
    with monkeypatch.context() as patched:
        patched.delattr(claims, "claim")  # nothing takes the full path
        got = claims_beside(fast, [worker] * 7, "digits")
    numbers = sorted(lease.trial_number for one in got for lease in one.leases)
    assert numbers == list(range(1, 8))
    assert sampler == "tpe" or commits(fast) - before <= 3
    assert broken(fast.context.database) == {}


def test_claims_of_one_worker_at_once_never_exceed_its_capacity(fast: FastService) -> None:
    worker, _ = led(fast, "digits", capacity=4)
    got = claims_beside(fast, [worker] * 6, "digits")
    assert sum(len(one.leases) for one in got if not isinstance(one, WorkerBusy)) == 3
    assert broken(fast.context.database) == {}


def test_claims_of_two_workers_beside_two_studies_take_turns(fast: FastService) -> None:
    one, _ = led(fast, "one")
    other, _ = led(fast, "other")
    mixed = [(one, "one"), (other, "other")] * 4
    requests = [a_claim(worker, beside=study) for worker, study in mixed]
    got = fast.together(*(fast.fast_path.claim(request) for request in requests))
    served = [lease.study for answer in got for lease in answer.leases]
    assert abs(served.count("one") - served.count("other")) <= 1
    assert [answer.leases[0].study for answer in got if answer.leases] == served
    assert broken(fast.context.database) == {}


def test_queued_trials_claimed_by_one_worker_at_once_all_find_a_slot(
    replicas: Replicas,
) -> None:
    replicas.one.study(**MANY)
    for lease in [replicas.one.lease() for _ in range(15)]:
        replicas.one.drain(lease)
    worker = replicas.one.worker(16)
    replicas.one.lease(worker)
    got = at_once(
        *(lambda on=on: on.claim(worker, beside="digits") for on in replicas.alternate(15))
    )
    assert [len(leases) for leases in got] == [1] * 15
    replicas.assert_intact()


def next_queued(connection: Connection, study_id: int, worker: UUID) -> LeaseRow | None:
    """Claim a trial that waits."""
    return lease_rows.claim_queued(
        connection, study_id, worker_id=worker, claim_id=uuid4(), ordinal=0, only_trials=True
    )


def new_one(connection: Connection, study_id: int, worker: UUID) -> LeaseRow | None:
    """Claim a trial that is just proposed."""
    return trials.start(connection, study_id, NewTrial({}, {}, {}, None, worker, uuid4(), 0))


@contextmanager
def patiently(service: Service) -> Generator[Connection]:
    """A transaction that waits for others however slow the machine is."""
    with service.context.database.transaction(within_s=60) as connection:
        for name in (
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
        ):
            connection.execute(text(f"SET LOCAL {name} = 0"))
        yield connection


@pytest.mark.parametrize("get", [next_queued, new_one])
def test_a_claim_waits_for_another_of_its_worker_and_takes_the_next_slot(
    replicas: Replicas, get: Callable[[Connection, int, UUID], LeaseRow | None]
) -> None:
    replicas.one.study(**MANY)
    for lease in [replicas.one.lease(), replicas.one.lease()]:
        replicas.one.drain(lease)
    study_id = replicas.one.value("SELECT study_id FROM trimtab.studies")
    worker = replicas.one.worker(2)

    def claim_on_the_other() -> LeaseRow | None:
        with patiently(replicas.two) as connection:
            return get(connection, study_id, worker)

    with ThreadPoolExecutor() as threads:
        with patiently(replicas.one) as connection:
            assert get(connection, study_id, worker) is not None
            waiting = threads.submit(claim_on_the_other)
            until(lambda: replicas.one.value(WAIT_FOR_LOCKS) == 1)
        assert waiting.result() is not None
    slots = replicas.one.rows("SELECT slot FROM trimtab.trials WHERE state = 'running'")
    assert sorted(row.slot for row in slots) == [0, 1]
