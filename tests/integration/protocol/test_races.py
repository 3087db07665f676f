"""Requests at the same moment, on two replicas over one Postgres: one effect each, and no error but problems."""

# ruff: noqa: B023 - every thread of a round has ended before the next round begins

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from service.storage import leases as lease_rows
from service.storage import turn
from service.use_cases import studies
from tests.support.documents import a_study_document
from tests.support.protocol import TTL_S
from tests.support.races import Replicas, at_once
from trimtab.contract.leases import Lease
from trimtab.contract.problems import (
    LeaseLost,
    Problem,
    ResultConflict,
    StepConflict,
    StudyNotFound,
    StudyNotIdle,
)

ROUNDS = 25


def kinds(answers: Iterable[Any]) -> list[str]:
    """Answers by type, sorted."""
    return sorted(type(answer).__name__ for answer in answers)


def test_one_claim_sent_twice_at_once_is_one_lease(replicas: Replicas) -> None:
    replicas.one.study(budget={"trials": 10 * ROUNDS})
    for capacity in (1, 2):
        for _ in range(ROUNDS):
            worker, claim = replicas.one.worker(capacity), uuid4()
            first, second = at_once(
                *(
                    lambda on=on: on.claim(worker, claim_id=claim, capacity=capacity)
                    for on in replicas.alternate(2)
                )
            )
            assert [lease.lease_id for lease in first] == [lease.lease_id for lease in second]
            assert len(first) == capacity
    replicas.assert_intact()


def test_two_workers_at_the_last_trial_of_the_budget_get_one_lease(replicas: Replicas) -> None:
    for round_ in range(ROUNDS):
        name = replicas.one.study(f"study-{round_}", budget={"trials": 2})
        # A proposal for the only worker of a study is void as another trial: with one more the budget alone decides.
        first = replicas.one.lease()
        workers = [replicas.one.worker() for _ in range(4)]
        got = at_once(
            *(
                lambda on=on, worker=worker: on.claim(worker)
                for on, worker in zip(replicas.alternate(4), workers, strict=True)
            )
        )
        (lease,) = [lease for leases in got for lease in leases]
        assert lease.study == name
        replicas.one.complete(first, 0.4)
        replicas.one.complete(lease, 0.5)
        replicas.one.complete_final(replicas.one.lease())
    replicas.assert_intact()


def test_two_claims_of_a_worker_with_one_slot_get_at_most_one_lease(replicas: Replicas) -> None:
    replicas.one.study(budget={"trials": 4 * ROUNDS})
    for _ in range(ROUNDS):
        worker = replicas.one.worker()
        got = at_once(*(lambda on=on: on.claim(worker) for on in replicas.alternate(3)))
        assert sum(len(leases) for leases in got if not isinstance(leases, Problem)) == 1
    replicas.assert_intact()


def test_one_report_sent_many_times_at_once_is_stored_once_and_answered_alike(
    replicas: Replicas,
) -> None:
    replicas.one.study()
    lease = replicas.one.lease()
    for step in range(ROUNDS):
        answers = at_once(
            *(lambda on=on: on.report(lease, 0.5, step=step) for on in replicas.alternate(4))
        )
        assert answers == ["continue"] * 4
    assert replicas.one.value("SELECT count(*) FROM trimtab.reports") == ROUNDS
    assert (
        replicas.one.value("SELECT count(*) FROM trimtab.events WHERE kind = 'reported'")
        == ROUNDS
    )


def test_of_two_values_for_one_step_at_once_one_is_stored_and_the_other_refused(
    replicas: Replicas,
) -> None:
    replicas.one.study()
    lease = replicas.one.lease()
    for step in range(ROUNDS):
        answers = at_once(
            lambda: replicas.one.report(lease, 0.1, step=step),
            lambda: replicas.two.report(lease, 0.2, step=step),
        )
        (stored,) = replicas.one.rows(
            "SELECT value FROM trimtab.reports WHERE step = :step", step=step
        )
        assert isinstance(answers[0 if stored.value == 0.2 else 1], StepConflict)
        assert answers[0 if stored.value == 0.1 else 1] == "continue"
    replicas.assert_intact()


def leased(replicas: Replicas, count: int) -> list[Lease]:
    """So many running trials of one study, each with a worker of its own."""
    replicas.one.study(budget={"trials": count})
    return [replicas.one.lease() for _ in range(count)]


def test_a_report_that_races_the_outcome_is_stored_before_it_or_refused(
    replicas: Replicas,
) -> None:
    for lease in leased(replicas, 2 * ROUNDS):
        reported, settled = at_once(
            lambda: replicas.one.report(lease, 0.9),
            lambda: replicas.two.prune(lease),
        )
        assert settled == "pruned"
        (trial,) = replicas.one.rows(
            """SELECT curve, (SELECT value FROM trial_values v WHERE v.trial_id = t.trial_id) AS value
               FROM trimtab.trials t WHERE number = :number""",
            number=lease.trial_number,
        )
        if isinstance(reported, LeaseLost):
            assert (trial.curve, trial.value) == ([], None)
        else:
            assert (trial.curve, trial.value) == ([[0, 0.9]], 0.9)
    replicas.assert_intact()


def test_one_outcome_sent_twice_at_once_has_one_effect_and_one_answer(
    replicas: Replicas,
) -> None:
    for lease in leased(replicas, ROUNDS):
        answers = at_once(
            *(lambda on=on: on.complete(lease, 0.5) for on in replicas.alternate(3))
        )
        assert answers == ["completed"] * 3
    replicas.assert_intact()


def test_of_two_outcomes_at_once_one_wins_and_the_other_is_told_so(replicas: Replicas) -> None:
    for lease in leased(replicas, ROUNDS):
        answers = at_once(
            lambda: replicas.one.complete(lease, 0.5), lambda: replicas.two.fail(lease)
        )
        refused = [answer for answer in answers if isinstance(answer, ResultConflict)]
        (won,) = [answer for answer in answers if isinstance(answer, str)]
        assert len(refused) == 1
        assert (
            replicas.one.value(
                "SELECT state FROM trimtab.trials WHERE kind = 'trial' AND number = :number",
                number=lease.trial_number,
            )
            == won
        )
    replicas.assert_intact()


def test_a_sweep_that_races_the_outcome_revokes_the_lease_or_lets_it_be_settled(
    replicas: Replicas,
) -> None:
    replicas.one.study(budget={"trials": ROUNDS}, max_crashes=100)
    for _ in range(ROUNDS):
        lease = replicas.one.lease()
        replicas.one.clock.advance(TTL_S + 1)
        swept, settled = at_once(replicas.one.sweep, lambda: replicas.two.complete(lease, 0.5))
        if swept:
            assert isinstance(settled, LeaseLost)
        else:
            assert settled == "completed"
        replicas.one.clock.advance(300)  # past the back-off
    replicas.assert_intact()


def test_a_sweep_that_races_a_heartbeat_revokes_the_lease_or_lets_it_be_renewed(
    replicas: Replicas,
) -> None:
    replicas.one.study(budget={"trials": ROUNDS}, max_crashes=100)
    for _ in range(ROUNDS):
        replicas.one.clock.advance(300)
        lease = replicas.one.lease()
        replicas.one.clock.advance(TTL_S + 1)
        swept, renewed = at_once(replicas.one.sweep, lambda: replicas.two.heartbeat(lease))
        assert (swept == 1) == isinstance(renewed, LeaseLost)
        if not swept:
            assert replicas.one.sweep() == 0
            replicas.one.drain(lease)
    replicas.assert_intact()


def test_sweeps_of_two_replicas_revoke_each_lease_once(replicas: Replicas) -> None:
    replicas.one.study(budget={"trials": 20}, max_crashes=100)
    for _ in range(3):
        replicas.one.clock.advance(1000)
        for _ in range(20):
            replicas.one.lease()
        replicas.one.clock.advance(TTL_S + 1)
        assert sum(at_once(*(on.sweep for on in replicas.alternate(4)))) == 20
    replicas.assert_intact()


@pytest.mark.parametrize("change", [studies.pause, studies.cancel])
def test_a_claim_that_races_a_pause_or_a_cancel_is_told_so_at_its_next_word(
    replicas: Replicas, change: Callable[..., object]
) -> None:
    for round_ in range(ROUNDS):
        name = replicas.one.study(f"study-{round_}", budget={"trials": 1}, priority=round_)
        replicas.one.drain(replicas.one.lease())  # a queued trial, to be claimed or cancelled
        worker = replicas.one.worker()
        got, _ = at_once(
            lambda: replicas.one.claim(worker),
            lambda: change(replicas.two.context, name),
        )
        told = "cancel" if change is studies.cancel else "pause"
        assert [replicas.one.heartbeat(lease) for lease in got] == [told] * len(got)
        for lease in got:
            replicas.one.give_back_paused(lease)
    replicas.assert_intact()


@pytest.mark.parametrize("queued", [True, False])
def test_a_claim_that_races_a_delete_is_of_a_study_that_stays(
    replicas: Replicas, queued: bool
) -> None:
    for round_ in range(ROUNDS):
        name = replicas.one.study(f"study-{round_}", budget={"trials": 1})
        if queued:
            replicas.one.drain(replicas.one.lease())
        worker = replicas.one.worker()
        got, deleted = at_once(
            lambda: replicas.one.claim(worker),
            lambda: studies.delete(replicas.two.context, name),
        )
        if got:
            assert isinstance(deleted, StudyNotIdle)
            replicas.one.fail(got[0])
            studies.delete(replicas.one.context, name)
        with pytest.raises(StudyNotFound):
            studies.read(replicas.one.context, name)
    replicas.assert_intact()


def test_a_study_deleted_between_two_looks_of_a_claim_is_passed_over(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas.one.study("first")
    replicas.one.study("second")
    list_candidates = turn.candidates

    def list_and_delete(connection: Connection, **given: Any) -> list[turn.Candidate]:
        listed = list_candidates(connection, **given)
        studies.delete(replicas.one.context, "first")
        return listed

    monkeypatch.setattr(turn, "candidates", list_and_delete)
    assert replicas.two.lease().study == "second"


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (studies.pause, studies.resume, "queued"),
        (studies.read, studies.cancel, "cancelled"),
    ],
)
def test_a_trial_given_back_while_its_study_changes_is_not_left_behind(
    replicas: Replicas,
    before: Callable[..., object],
    change: Callable[..., object],
    after: str,
) -> None:
    for round_ in range(ROUNDS):
        name = replicas.one.study(f"study-{round_}", budget={"trials": 1}, priority=round_)
        lease = replicas.one.lease()
        before(replicas.one.context, name)
        at_once(
            lambda: replicas.one.give_back_paused(lease),
            lambda: change(replicas.two.context, name),
        )
        (trial,) = replicas.one.rows(
            "SELECT t.state FROM trimtab.trials t JOIN trimtab.studies s USING (study_id) WHERE name = :name",
            name=name,
        )
        assert trial.state == after
    replicas.assert_intact()


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (studies.pause, studies.resume, "queued"),
        (studies.read, studies.cancel, "cancelled"),
    ],
)
def test_a_study_that_changes_between_two_looks_of_a_release_keeps_its_trial(
    replicas: Replicas,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[..., object],
    change: Callable[..., object],
    after: str,
) -> None:
    name = replicas.one.study(budget={"trials": 1})
    lease = replicas.one.lease()
    before(replicas.one.context, name)
    read = lease_rows.read

    def read_and_change(connection: Connection, lease_id: UUID) -> lease_rows.LeaseFacts | None:
        facts = read(connection, lease_id)
        change(replicas.two.context, name)
        return facts

    monkeypatch.setattr(lease_rows, "read", read_and_change)
    replicas.one.give_back_paused(lease)
    assert replicas.one.value("SELECT state FROM trimtab.trials") == after
    replicas.assert_intact()


def test_a_grid_claimed_on_two_replicas_gives_each_cell_once_and_all_of_them(
    replicas: Replicas,
) -> None:
    space = {
        "batch_size": {"kind": "choices", "choices": [16, 32, 64, 128]},
        "frozen_stages": {"kind": "int", "low": 0, "high": 3},
    }
    replicas.one.study(space=space, search={"sampler": "grid"}, budget={"trials": 20})
    workers = [replicas.one.worker(20) for _ in range(4)]
    cells: list[tuple[object, ...]] = []
    for _ in range(4):
        got = at_once(
            *(
                lambda on=on, worker=worker: on.claim(worker)
                for on, worker in zip(replicas.alternate(4), workers, strict=True)
            )
        )
        cells += [
            tuple(sorted(lease.hyperparameters.items())) for leases in got for lease in leases
        ]
    assert len(cells) == len(set(cells)) == 16
    replicas.assert_intact()


def test_one_study_created_twice_at_once_under_one_key_is_one_study(replicas: Replicas) -> None:
    for round_ in range(ROUNDS):
        document = a_study_document(name=f"study-{round_}")
        answers = at_once(
            *(
                lambda on=on: studies.create(on.context, document, f"key-{round_}")
                for on in replicas.alternate(3)
            )
        )
        assert kinds(answers) == ["Study"] * 3
        assert answers[0] == answers[1] == answers[2]
    assert replicas.one.value("SELECT count(*) FROM studies") == ROUNDS


def test_of_two_studies_of_one_name_at_once_one_is_created(replicas: Replicas) -> None:
    for round_ in range(ROUNDS):
        document = a_study_document(name=f"study-{round_}")
        answers = at_once(
            *(
                lambda on=on: studies.create(on.context, document, None)
                for on in replicas.alternate(2)
            )
        )
        assert kinds(answers) == ["Study", "StudyExists"]


def test_the_last_outcomes_at_once_make_one_final_lease(replicas: Replicas) -> None:
    for round_ in range(ROUNDS):
        name = replicas.one.study(f"study-{round_}", budget={"trials": 2})
        pair = [replicas.one.lease(), replicas.one.lease()]
        at_once(
            lambda: replicas.one.complete(pair[0], 0.5),
            lambda: replicas.two.complete(pair[1], 0.6),
        )
        assert studies.read(replicas.one.context, name).state == "finalising"
        final = replicas.one.lease()
        assert (final.kind, final.trial_number) == ("final", pair[1].trial_number)
        answers = at_once(
            *(lambda on=on: on.complete_final(final) for on in replicas.alternate(2))
        )
        assert answers == ["completed"] * 2
        assert studies.read(replicas.one.context, name).state == "done"
    replicas.assert_intact()
