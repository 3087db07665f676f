"""Verbs on the fast path: many with one commit, each with its own answer; an unusual request takes the full path."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from service.storage import engine
from service.storage.engine import Locked
from service.storage.workers import SILENT_AFTER
from service.use_cases import studies
from service.use_cases.fast.fast_path import MOST_REPORTS
from tests.support.fast_path import FastService, on_fast_path
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas
from tests.support.until import until
from trimtab.contract.leases import (
    Answer,
    Completed,
    Failed,
    Lease,
    LeaseRequest,
    Leases,
    Report,
    Reports,
    Settled,
    Verdict,
)
from trimtab.contract.problems import (
    LeaseLost,
    LeaseNotFound,
    ResultConflict,
    StepConflict,
    TooManyPoints,
    WorkerBusy,
    WorkerNotFound,
)

RANDOM = {"sampler": "random", "pruner": "none"}
MEDIAN = {"sampler": "random", "pruner": "median", "startup_trials": 3, "warmup_epochs": 0}


@pytest.fixture
def full(new_database: Callable[[], str], tmp_path: Path) -> Generator[Service]:
    """Another service, on a database of its own, where everything takes the full path."""
    database = engine.connect(new_database())
    yield Service.on(database, tmp_path)
    database.dispose()


def known_study(fast: FastService, name: str = "digits", **changes: Any) -> str:
    """A study that this process has met: its first claim, which read the document, is given back."""
    fast.study(name, **({"search": RANDOM, "budget": {"trials": 100}} | changes))
    lease = fast.lease()
    assert lease.study == name
    fast.fail(lease)
    return name


def leased(fast: FastService, count: int) -> list[Lease]:
    """So many running trials, each with a worker of its own."""
    return [fast.lease() for _ in range(count)]


def claims(fast: FastService, workers: Sequence[UUID]) -> list[Any]:
    """One claim of each worker, all begun at once."""
    requests = [LeaseRequest(worker_id=worker, claim_id=uuid4()) for worker in workers]
    return fast.together(*(fast.fast_path.claim(request) for request in requests))


def batch(value: float, step: int = 0) -> Reports:
    return Reports(reports=(Report(step=step, value=value),))


def commits(fast: FastService, kind: str) -> int:
    """How many transactions stored the events of a kind."""
    return fast.value(
        "SELECT count(DISTINCT xid::text) FROM trimtab.events WHERE kind = :kind", kind=kind
    )


def test_claims_that_wait_for_each_other_are_stored_with_one_commit(fast: FastService) -> None:
    known_study(fast)
    before = commits(fast, "trial_started")
    got = claims(fast, [fast.worker() for _ in range(12)])
    leases = [lease for one in got for lease in one.leases]
    assert sorted(lease.trial_number for lease in leases) == list(range(1, 13))
    assert len({lease.lease_id for lease in leases}) == 12
    assert commits(fast, "trial_started") - before <= 3
    assert broken(fast.context.database) == {}


def test_claims_together_that_exceed_the_budget_take_it_to_the_last_trial(
    fast: FastService,
) -> None:
    known_study(fast, budget={"trials": 8})
    got = claims(fast, [fast.worker() for _ in range(12)])
    assert sum(len(one.leases) for one in got) == 7
    assert broken(fast.context.database) == {}


def test_one_claim_sent_twice_in_a_group_is_one_lease(fast: FastService) -> None:
    known_study(fast)
    request = LeaseRequest(worker_id=fast.worker(), claim_id=uuid4())
    others = [LeaseRequest(worker_id=fast.worker(), claim_id=uuid4()) for _ in range(2)]
    _, first, second, _ = fast.together(
        *(fast.fast_path.claim(one) for one in (others[0], request, request, others[1]))
    )
    assert first == second
    assert len(first.leases) == 1
    assert fast.wait_for(fast.fast_path.claim(request)) == first


def test_two_claims_of_a_worker_with_one_slot_in_a_group_are_one_lease(
    fast: FastService,
) -> None:
    known_study(fast)
    worker = fast.worker()
    got = claims(fast, [fast.worker(), worker, worker])
    assert sorted(type(one).__name__ for one in got[1:]) == ["Leases", "WorkerBusy"]
    assert broken(fast.context.database) == {}


def test_a_claim_that_is_refused_costs_its_group_nothing(fast: FastService) -> None:
    known_study(fast)
    busy = fast.worker()
    fast.lease(busy)
    got = claims(fast, [fast.worker(), uuid4(), busy, fast.worker(), fast.worker()])
    assert [type(one) for one in got] == [Leases, WorkerNotFound, WorkerBusy, Leases, Leases]
    assert [len(got[place].leases) for place in (0, 3, 4)] == [1, 1, 1]


def test_claims_together_serve_the_studies_as_if_one_came_after_another(
    fast: FastService,
) -> None:
    for name in ("first", "second"):
        known_study(fast, name, priority=5 if name == "first" else 6)
    known_study(fast, "third", priority=7, budget={"trials": 3})
    got = claims(fast, [fast.worker() for _ in range(6)])
    served = sorted(lease.study for one in got for lease in one.leases)
    assert served == ["second"] * 4 + ["third"] * 2


def test_a_queued_trial_is_claimed_before_a_new_one_is_proposed(fast: FastService) -> None:
    known_study(fast)
    given_back = fast.lease()
    fast.drain(given_back)
    got = claims(fast, [fast.worker() for _ in range(3)])
    numbers = sorted(lease.trial_number for one in got for lease in one.leases)
    assert numbers == [1, 2, 3]
    assert broken(fast.context.database) == {}


def test_claims_of_a_locked_study_cost_nobody_the_work_of_another(fast: FastService) -> None:
    known_study(fast, "open", priority=1)
    known_study(fast, "locked", priority=2)
    with fast.context.database.transaction(within_s=60) as other:
        other.execute(text("SELECT FROM trimtab.studies WHERE name = 'locked' FOR UPDATE"))
        got = claims(fast, [fast.worker() for _ in range(4)])
    assert [lease.study for one in got for lease in one.leases] == ["open"] * 4


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_claims_under_other_samplers_are_all_served(fast: FastService, sampler: str) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32, 64, 128, 256]}}
    search = {"sampler": sampler, "pruner": "none"}
    known_study(fast, search=search, space=space, budget={"trials": 5})
    got = claims(fast, [fast.worker() for _ in range(6)])
    sizes = [lease.hyperparameters["batch_size"] for one in got for lease in one.leases]
    assert len(sizes) == 4
    assert sampler == "tpe" or len(set(sizes)) == 4
    assert broken(fast.context.database) == {}


def test_a_claim_of_a_quiet_worker_notes_that_it_spoke(fast: FastService) -> None:
    known_study(fast)
    worker = fast.worker()
    fast.clock.advance(60)
    fast.lease(worker)
    assert fast.value(
        f"SELECT last_seen > trimtab.now() - interval '{SILENT_AFTER}' AND last_seen = trimtab.now()"
        " FROM trimtab.workers WHERE worker_id = :worker",
        worker=worker,
    )


def test_reports_together_have_one_commit_and_each_its_answer(fast: FastService) -> None:
    known_study(fast)
    lost, told, *others = leased(fast, 6)
    fast.report(told, 0.5)
    fast.fail(lost)
    before = commits(fast, "reported")
    ids = [others[0].lease_id, lost.lease_id, uuid4(), *(one.lease_id for one in others[1:])]
    said = [fast.fast_path.report(lease_id, batch(0.5)) for lease_id in ids]
    repeated = [fast.fast_path.report(told.lease_id, batch(value)) for value in (0.5, 0.6)]
    answers = fast.together(*said, *repeated)
    assert [type(answer) for answer in answers] == [
        *(Answer, LeaseLost, LeaseNotFound, Answer, Answer, Answer),
        *(Answer, StepConflict),
    ]
    assert commits(fast, "reported") - before <= 3
    assert fast.value("SELECT count(*) FROM trimtab.reports WHERE step = 0") == 5


def test_two_reports_of_one_lease_at_once_are_both_stored(fast: FastService) -> None:
    known_study(fast)
    one, other = leased(fast, 2)
    answers = fast.together(
        fast.fast_path.report(other.lease_id, batch(0.1)),
        *(fast.fast_path.report(one.lease_id, batch(0.1, step=step)) for step in range(3)),
    )
    assert [type(answer) for answer in answers] == [Answer] * 4
    assert fast.value("SELECT count(*) FROM trimtab.reports") == 4


@pytest.mark.parametrize(
    ("change", "verdict"), [(studies.pause, "pause"), (studies.cancel, "cancel")]
)
def test_a_report_is_told_what_became_of_its_study(
    fast: FastService, change: Any, verdict: str
) -> None:
    known_study(fast)
    lease = fast.lease()
    assert fast.report(lease, 0.1, step=0) == "continue"
    change(fast.context, "digits")
    assert fast.report(lease, 0.2, step=1) == verdict


def test_a_report_after_the_wall_time_is_told_to_finish(fast: FastService) -> None:
    known_study(fast, budget={"trials": 100, "wall_time_s": 100})
    lease = fast.lease()
    assert fast.report(lease, 0.1, step=0) == "continue"
    fast.clock.advance(101)
    assert fast.report(lease, 0.2, step=1) == "finish"


def verdicts(sides: Sequence[Service], dice: Random) -> list[Verdict]:
    """What random lives of trials are told, each of their verbs by one of the sides; all know what has completed."""
    told: list[Verdict] = []
    held: list[tuple[Lease, int]] = []
    sides[0].study(search=MEDIAN, budget={"trials": 100})
    for _ in range(120):
        side = dice.choice(sides)
        if len(held) < 3:
            held.append((side.lease(), dice.randrange(2)))
        lease, step = held.pop(0)
        match dice.choice(["report"] * 6 + ["complete", "drain"]):
            case "complete":
                side.complete(lease, dice.random())
                for each in sides:
                    each.context.sampling.touch(study_id(each))
            case "drain":
                side.drain(lease)
            case _:
                values = [
                    dice.choice([dice.random()] * 9 + [None]) for _ in range(1 + step % 2)
                ]
                told.append(side.report(lease, *values, step=step))
                held.append((lease, step + len(values)))
    return told


def study_id(service: Service) -> int:
    return service.value("SELECT study_id FROM trimtab.studies")


def test_reports_are_told_the_same_by_the_short_way_and_by_the_whole_way(
    replicas: Replicas, full: Service
) -> None:
    with on_fast_path(replicas.one) as one:
        told = verdicts((one, one, one, replicas.two), Random(1))
    assert told == verdicts((full,) * 4, Random(1))
    assert {told.count("stop") > 9, told.count("continue") > 9} == {True}


def test_what_another_replica_stored_of_a_trial_counts_for_its_verdict(
    replicas: Replicas,
) -> None:
    with on_fast_path(replicas.one) as one:
        one.study(search=MEDIAN | {"startup_trials": 1})
        peer = one.lease()
        one.report(peer, 0.5, 0.5)
        one.complete(peer, 0.5)
        one.context.sampling.touch(study_id(one))
        lease = one.lease()
        assert replicas.two.report(lease, 0.6, step=0) == "continue"
        assert one.report(lease, 0.1, step=1) == "continue"


def test_more_reports_in_one_batch_than_are_taken_are_refused_and_none_is_stored(
    fast: FastService,
) -> None:
    known_study(fast)
    lease = fast.lease()
    with pytest.raises(TooManyPoints):
        fast.report(lease, *[0.5] * (MOST_REPORTS + 1))
    assert fast.value("SELECT count(*) FROM trimtab.reports") == 0
    assert fast.report(lease, *[0.5] * MOST_REPORTS) == "continue"


def test_reports_of_a_locked_trial_cost_no_other_trial_its_answer(fast: FastService) -> None:
    known_study(fast)
    locked, *free = leased(fast, 4)
    with fast.context.database.transaction(within_s=60) as other:
        other.execute(
            text("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE"),
            {"lease_id": locked.lease_id},
        )
        answers = fast.together(
            *(fast.fast_path.report(lease.lease_id, batch(0.5)) for lease in (*free, locked))
        )
    assert [type(answer) for answer in answers] == [Answer, Answer, Answer, Locked]


def test_outcomes_together_have_one_commit_and_each_its_answer(fast: FastService) -> None:
    known_study(fast)
    lost, crashed, contested, *others = leased(fast, 7)
    fast.fail(lost)
    before = commits(fast, "trial_completed")
    said = [
        *((lease, Completed(value=0.5)) for lease in (others[0], lost, contested)),
        (contested, Completed(value=0.6)),
        (crashed, Failed(error="crashed", retryable=True)),
        *((lease, Completed(value=0.5)) for lease in others[1:]),
        (others[1], Completed(value=0.5)),
    ]
    answers = fast.together(
        *(fast.fast_path.settle(lease.lease_id, outcome) for lease, outcome in said)
    )
    done = Settled(state="completed")
    assert answers[:1] + answers[2:3] + answers[5:] == [done] * 6
    assert isinstance(answers[1], ResultConflict)
    assert isinstance(answers[3], ResultConflict)
    assert answers[4] == Settled(state="queued")
    assert commits(fast, "trial_completed") - before <= 3
    assert broken(fast.context.database) == {}


def test_outcomes_of_a_locked_trial_cost_no_other_trial_its_answer(fast: FastService) -> None:
    known_study(fast)
    locked, *free = leased(fast, 4)
    with fast.context.database.transaction(within_s=60) as other:
        other.execute(
            text("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE"),
            {"lease_id": locked.lease_id},
        )
        answers = fast.together(
            *(
                fast.fast_path.settle(lease.lease_id, Completed(value=0.5))
                for lease in (*free, locked)
            )
        )
    assert [type(answer) for answer in answers] == [Settled, Settled, Settled, Locked]
    assert fast.complete(locked, 0.5) == "completed"


def test_the_last_outcome_brings_its_study_to_its_end(fast: FastService) -> None:
    known_study(fast, budget={"trials": 3})
    pair = leased(fast, 2)
    fast.together(
        *(fast.fast_path.settle(lease.lease_id, Completed(value=0.5)) for lease in pair)
    )
    assert studies.read(fast.context, "digits").state == "finalising"
    final = fast.lease()
    assert final.kind == "final"
    assert fast.complete_final(final) == "completed"
    assert studies.read(fast.context, "digits").state == "done"


def test_connections_that_the_server_has_ended_are_opened_again(fast: FastService) -> None:
    known_study(fast)
    lease = fast.lease()
    fast.report(lease, 0.1, step=0)
    with fast.context.database.statements() as connection:
        connection.execute(
            text("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()""")
        )
    until(lambda: all(one.is_closed for one in fast.fast_path.connections))
    assert fast.report(lease, 0.2, step=1) == "continue"
    assert fast.complete(lease, 0.2) == "completed"
