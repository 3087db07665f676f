"""Verbs by their short ways: many with one commit, each with its own answer; whoever is not ordinary goes the whole way."""

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
from tests.support.lanes import Shortly, shortly
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
    WorkerBusy,
    WorkerNotFound,
)

RANDOM = {"sampler": "random", "pruner": "none"}
MEDIAN = {"sampler": "random", "pruner": "median", "startup_trials": 3}


@pytest.fixture
def whole(new_database: Callable[[], str], tmp_path: Path) -> Generator[Service]:
    """Another service, on a database of its own, which goes the whole way with everything."""
    database = engine.connect(new_database())
    yield Service.on(database, tmp_path)
    database.dispose()


def known_study(short: Shortly, name: str = "digits", **changes: Any) -> str:
    """A study that this process has met: its first claim, which read the document, is given back."""
    short.study(name, **({"search": RANDOM, "budget": {"trials": 100}} | changes))
    lease = short.lease()
    assert lease.study == name
    short.fail(lease)
    return name


def leased(short: Shortly, count: int) -> list[Lease]:
    """So many running trials, each with a worker of its own."""
    return [short.lease() for _ in range(count)]


def claims(short: Shortly, workers: Sequence[UUID]) -> list[Any]:
    """One claim of each worker, all begun at once."""
    requests = [LeaseRequest(worker_id=worker, claim_id=uuid4()) for worker in workers]
    return short.together(*(short.lanes.claim(request) for request in requests))


def batch(value: float, step: int = 0) -> Reports:
    return Reports(reports=(Report(step=step, value=value),))


def commits(short: Shortly, kind: str) -> int:
    """How many transactions stored the events of a kind."""
    return short.value(
        "SELECT count(DISTINCT xid::text) FROM trimtab.events WHERE kind = :kind", kind=kind
    )


def test_claims_that_wait_for_each_other_are_stored_with_one_commit(short: Shortly) -> None:
    known_study(short)
    before = commits(short, "trial_started")
    got = claims(short, [short.worker() for _ in range(12)])
    leases = [lease for one in got for lease in one.leases]
    assert sorted(lease.trial_number for lease in leases) == list(range(1, 13))
    assert len({lease.lease_id for lease in leases}) == 12
    assert commits(short, "trial_started") - before <= 3
    assert broken(short.context.database) == {}


def test_claims_together_that_exceed_the_budget_take_it_to_the_last_trial(
    short: Shortly,
) -> None:
    known_study(short, budget={"trials": 8})
    got = claims(short, [short.worker() for _ in range(12)])
    assert sum(len(one.leases) for one in got) == 7
    assert broken(short.context.database) == {}


def test_one_claim_sent_twice_in_a_group_is_one_lease(short: Shortly) -> None:
    known_study(short)
    request = LeaseRequest(worker_id=short.worker(), claim_id=uuid4())
    others = [LeaseRequest(worker_id=short.worker(), claim_id=uuid4()) for _ in range(2)]
    _, first, second, _ = short.together(
        *(short.lanes.claim(one) for one in (others[0], request, request, others[1]))
    )
    assert first == second
    assert len(first.leases) == 1
    assert short.wait_for(short.lanes.claim(request)) == first


def test_two_claims_of_a_worker_with_one_slot_in_a_group_are_one_lease(
    short: Shortly,
) -> None:
    known_study(short)
    worker = short.worker()
    got = claims(short, [short.worker(), worker, worker])
    assert sorted(type(one).__name__ for one in got[1:]) == ["Leases", "WorkerBusy"]
    assert broken(short.context.database) == {}


def test_a_claim_that_is_refused_costs_its_group_nothing(short: Shortly) -> None:
    known_study(short)
    busy = short.worker()
    short.lease(busy)
    got = claims(short, [short.worker(), uuid4(), busy, short.worker(), short.worker()])
    assert [type(one) for one in got] == [Leases, WorkerNotFound, WorkerBusy, Leases, Leases]
    assert [len(got[place].leases) for place in (0, 3, 4)] == [1, 1, 1]


def test_claims_together_serve_the_studies_as_if_one_came_after_another(
    short: Shortly,
) -> None:
    for name in ("first", "second"):
        known_study(short, name, priority=5 if name == "first" else 6)
    known_study(short, "third", priority=7, budget={"trials": 3})
    got = claims(short, [short.worker() for _ in range(6)])
    served = sorted(lease.study for one in got for lease in one.leases)
    assert served == ["second"] * 4 + ["third"] * 2


def test_a_queued_trial_is_claimed_before_a_new_one_is_proposed(short: Shortly) -> None:
    known_study(short)
    given_back = short.lease()
    short.drain(given_back)
    got = claims(short, [short.worker() for _ in range(3)])
    numbers = sorted(lease.trial_number for one in got for lease in one.leases)
    assert numbers == [1, 2, 3]
    assert broken(short.context.database) == {}


def test_claims_of_a_locked_study_cost_nobody_the_work_of_another(short: Shortly) -> None:
    known_study(short, "open", priority=1)
    known_study(short, "locked", priority=2)
    with short.context.database.transaction(within_s=60) as other:
        other.execute(text("SELECT FROM trimtab.studies WHERE name = 'locked' FOR UPDATE"))
        got = claims(short, [short.worker() for _ in range(4)])
    assert [lease.study for one in got for lease in one.leases] == ["open"] * 4


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_claims_under_other_samplers_are_all_served(short: Shortly, sampler: str) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32, 64, 128, 256]}}
    search = {"sampler": sampler, "pruner": "none"}
    known_study(short, search=search, space=space, budget={"trials": 5})
    got = claims(short, [short.worker() for _ in range(6)])
    sizes = [lease.hyperparameters["batch_size"] for one in got for lease in one.leases]
    assert len(sizes) == 4
    assert sampler == "tpe" or len(set(sizes)) == 4
    assert broken(short.context.database) == {}


def test_a_claim_of_a_quiet_worker_notes_that_it_spoke(short: Shortly) -> None:
    known_study(short)
    worker = short.worker()
    short.clock.advance(60)
    short.lease(worker)
    assert short.value(
        f"SELECT last_seen > trimtab.now() - interval '{SILENT_AFTER}' AND last_seen = trimtab.now()"
        " FROM trimtab.workers WHERE worker_id = :worker",
        worker=worker,
    )


def test_reports_together_have_one_commit_and_each_its_answer(short: Shortly) -> None:
    known_study(short)
    lost, told, *others = leased(short, 6)
    short.report(told, 0.5)
    short.fail(lost)
    before = commits(short, "reported")
    ids = [others[0].lease_id, lost.lease_id, uuid4(), *(one.lease_id for one in others[1:])]
    said = [short.lanes.report(lease_id, batch(0.5)) for lease_id in ids]
    repeated = [short.lanes.report(told.lease_id, batch(value)) for value in (0.5, 0.6)]
    answers = short.together(*said, *repeated)
    assert [type(answer) for answer in answers] == [
        *(Answer, LeaseLost, LeaseNotFound, Answer, Answer, Answer),
        *(Answer, StepConflict),
    ]
    assert commits(short, "reported") - before <= 3
    assert short.value("SELECT count(*) FROM trimtab.reports WHERE step = 0") == 5


def test_two_reports_of_one_lease_at_once_are_both_stored(short: Shortly) -> None:
    known_study(short)
    one, other = leased(short, 2)
    answers = short.together(
        short.lanes.report(other.lease_id, batch(0.1)),
        *(short.lanes.report(one.lease_id, batch(0.1, step=step)) for step in range(3)),
    )
    assert [type(answer) for answer in answers] == [Answer] * 4
    assert short.value("SELECT count(*) FROM trimtab.reports") == 4


@pytest.mark.parametrize(
    ("change", "verdict"), [(studies.pause, "pause"), (studies.cancel, "cancel")]
)
def test_a_report_is_told_what_became_of_its_study(
    short: Shortly, change: Any, verdict: str
) -> None:
    known_study(short)
    lease = short.lease()
    assert short.report(lease, 0.1, step=0) == "continue"
    change(short.context, "digits")
    assert short.report(lease, 0.2, step=1) == verdict


def test_a_report_after_the_wall_time_is_told_to_finish(short: Shortly) -> None:
    known_study(short, budget={"trials": 100, "wall_time_s": 100})
    lease = short.lease()
    assert short.report(lease, 0.1, step=0) == "continue"
    short.clock.advance(101)
    assert short.report(lease, 0.2, step=1) == "finish"


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
    replicas: Replicas, whole: Service
) -> None:
    with shortly(replicas.one) as one:
        told = verdicts((one, one, one, replicas.two), Random(1))
    assert told == verdicts((whole,) * 4, Random(1))
    assert {told.count("stop") > 9, told.count("continue") > 9} == {True}


def test_what_another_replica_stored_of_a_trial_counts_for_its_verdict(
    replicas: Replicas,
) -> None:
    with shortly(replicas.one) as one:
        one.study(search=MEDIAN | {"startup_trials": 1})
        peer = one.lease()
        one.report(peer, 0.5, 0.5)
        one.complete(peer, 0.5)
        one.context.sampling.touch(study_id(one))
        lease = one.lease()
        assert replicas.two.report(lease, 0.6, step=0) == "continue"
        assert one.report(lease, 0.1, step=1) == "continue"


def test_reports_of_a_locked_trial_cost_no_other_trial_its_answer(short: Shortly) -> None:
    known_study(short)
    locked, *free = leased(short, 4)
    with short.context.database.transaction(within_s=60) as other:
        other.execute(
            text("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE"),
            {"lease_id": locked.lease_id},
        )
        answers = short.together(
            *(short.lanes.report(lease.lease_id, batch(0.5)) for lease in (*free, locked))
        )
    assert [type(answer) for answer in answers] == [Answer, Answer, Answer, Locked]


def test_outcomes_together_have_one_commit_and_each_its_answer(short: Shortly) -> None:
    known_study(short)
    lost, crashed, contested, *others = leased(short, 7)
    short.fail(lost)
    before = commits(short, "trial_completed")
    said = [
        *((lease, Completed(value=0.5)) for lease in (others[0], lost, contested)),
        (contested, Completed(value=0.6)),
        (crashed, Failed(error="crashed", retryable=True)),
        *((lease, Completed(value=0.5)) for lease in others[1:]),
        (others[1], Completed(value=0.5)),
    ]
    answers = short.together(
        *(short.lanes.settle(lease.lease_id, outcome) for lease, outcome in said)
    )
    done = Settled(state="completed")
    assert answers[:1] + answers[2:3] + answers[5:] == [done] * 6
    assert isinstance(answers[1], ResultConflict)
    assert isinstance(answers[3], ResultConflict)
    assert answers[4] == Settled(state="queued")
    assert commits(short, "trial_completed") - before <= 3
    assert broken(short.context.database) == {}


def test_outcomes_of_a_locked_trial_cost_no_other_trial_its_answer(short: Shortly) -> None:
    known_study(short)
    locked, *free = leased(short, 4)
    with short.context.database.transaction(within_s=60) as other:
        other.execute(
            text("SELECT FROM trimtab.trials WHERE lease_id = :lease_id FOR UPDATE"),
            {"lease_id": locked.lease_id},
        )
        answers = short.together(
            *(
                short.lanes.settle(lease.lease_id, Completed(value=0.5))
                for lease in (*free, locked)
            )
        )
    assert [type(answer) for answer in answers] == [Settled, Settled, Settled, Locked]
    assert short.complete(locked, 0.5) == "completed"


def test_the_last_outcome_brings_its_study_to_its_end(short: Shortly) -> None:
    known_study(short, budget={"trials": 3})
    pair = leased(short, 2)
    short.together(
        *(short.lanes.settle(lease.lease_id, Completed(value=0.5)) for lease in pair)
    )
    assert studies.read(short.context, "digits").state == "finalising"
    final = short.lease()
    assert final.kind == "final"
    assert short.complete_final(final) == "completed"
    assert studies.read(short.context, "digits").state == "done"


def test_connections_that_the_server_has_ended_are_opened_again(short: Shortly) -> None:
    known_study(short)
    lease = short.lease()
    short.report(lease, 0.1, step=0)
    with short.context.database.statements() as connection:
        connection.execute(
            text("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()""")
        )
    until(lambda: all(lane.is_closed for lane in short.lanes.connections))
    assert short.report(lease, 0.2, step=1) == "continue"
    assert short.complete(lease, 0.2) == "completed"
