"""Trials that the search pauses while others promise more, and takes up again from their checkpoints."""

import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from service.domain.decisions import Decision
from service.storage import reports, taking_up
from service.storage.leases import LeaseRow
from service.use_cases import artifacts, deciding, studies, trials
from tests.support.bell import listening
from tests.support.optuna_twin import storage_on
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from tests.support.until import until
from trimtab.contract.leases import Lease
from trimtab.contract.problems import LeaseLost
from trimtab.contract.reasons import Reason
from trimtab.contract.trials import Trial

EPOCHS = 9
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
ASHA = {"kind": "asha", "first_rung": 1, "eta": 3}
"""Of trials of 9 epochs: rungs at 1 and 3 epochs."""


def a_search(
    service: Service,
    *,
    trials: int = 4,
    pruner: Any = ASHA,
    sampler: str = "random",
    **changes: Any,
) -> str:
    """A study whose search pauses trials."""
    budget = {"trials": trials} | changes.pop("budget", {})
    search = {"sampler": sampler, "pruner": pruner}
    return service.study(search=search, fixed={"epochs": EPOCHS}, budget=budget, **changes)


def all_shown(service: Service, name: str = "digits") -> Sequence[Trial]:
    """Every trial as people read it."""
    return trials.page(service.context, name, after=None, size=100, state=None).trials


def shown(service: Service, number: int) -> Trial:
    """One trial as people read it."""
    return all_shown(service)[number]


def report(service: Service, lease: Lease, value: float | None, step: int = 0) -> str:
    """Report one epoch; what is to pause is saved and given back."""
    verdict = service.report(lease, value, step=step)
    if verdict == "pause":
        service.checkpoint(lease, step)
        service.give_back_paused(lease)
    return verdict


def paused(service: Service, *values: float) -> None:
    """Begin a trial for each value, and have it paused at the first rung."""
    for value in values:
        assert report(service, service.lease(), value) == "pause"


def run(service: Service, lease: Lease, value: float) -> str:
    """Train to where the lease is decided on; give back what is to pause, complete what comes to its end."""
    begin = 0 if lease.resume is None else lease.resume.step + 1
    for step in range(begin, EPOCHS):
        if (verdict := report(service, lease, value, step)) != "continue":
            return verdict
    return service.complete(lease, value)


def intact(service: Service) -> None:
    assert broken(service.context.database) == {}


# The way of a trial


def test_a_trial_is_paused_at_its_rung_and_taken_up_again_from_its_checkpoint(
    either: Service,
) -> None:
    a_search(either)
    worker = either.worker()
    first = either.lease(worker)
    assert (first.trial_number, first.runs_until) == (0, 1)
    assert report(either, first, 0.9) == "pause"
    told = shown(either, 0)
    assert (told.state, told.paused_by_search, told.runs_until) == ("paused", True, 1)
    assert told.reason is not None
    assert (told.reason.rule, told.reason.epoch) == ("asha", 1)
    for number, value in ((1, 0.5), (2, 0.4)):
        lease = either.lease(worker)
        assert (lease.trial_number, lease.runs_until, lease.resume) == (number, 1, None)
        assert report(either, lease, value) == "pause"
    again = either.lease(worker)
    assert (again.trial_number, again.runs_until, again.fence) == (0, 3, 2)
    assert again.resume is not None
    assert again.resume.step == 0
    assert [report(either, again, 0.9, step) for step in (1, 2)] == ["continue", "pause"]
    assert [one.state for one in all_shown(either)] == ["paused"] * 3
    intact(either)


def test_the_search_ends_when_nothing_is_worth_more_epochs(either: Service) -> None:
    a_search(either, trials=9)
    worker, ends = either.worker(), list[str]()
    while (leases := either.claim(worker)) and leases[0].kind == "trial":
        ends.append(run(either, leases[0], 1.0 - leases[0].trial_number / 10))
    study = studies.read(either.context, "digits")
    assert ends[-1] == "completed"
    assert (study.state, study.ended_by, study.trials_created) == ("finalising", "trials", 9)
    assert (study.progress.completed, study.progress.pruned) == (1, 8)
    # All nine trained one epoch, the best three of them two more, and the best of these all: none of them twice.
    assert study.progress.epochs == 9 * 1 + 3 * 2 + 1 * 6
    assert either.value("SELECT count(*) FROM trimtab.reports") == study.progress.epochs
    intact(either)


def test_one_that_is_among_the_best_goes_on_at_once_and_its_lease_tells_how_far(
    either: Service,
) -> None:
    a_search(either)
    paused(either, 0.1, 0.2)
    worker, claim_id = either.worker(), uuid4()
    (lease,) = either.claim(worker, claim_id=claim_id)
    assert [report(either, lease, 0.9, step) for step in (0, 1)] == ["continue"] * 2
    (repeated,) = either.claim(worker, claim_id=claim_id)
    assert (lease.runs_until, repeated.runs_until) == (1, 3)
    assert repeated.lease_id == lease.lease_id
    assert shown(either, 2).runs_until == 3
    assert report(either, lease, 0.9, step=2) == "pause"


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_any_sampler_may_stand_beside_it(either: Service, sampler: str) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [8, 16, 32, 64]}}
    a_search(either, trials=4, sampler=sampler, space=space)
    worker, numbers = either.worker(), list[int]()
    while (leases := either.claim(worker)) and leases[0].kind == "trial":
        numbers.append(leases[0].trial_number)
        run(either, leases[0], 0.5)
    assert sorted(set(numbers)) == [0, 1, 2, 3]
    assert studies.read(either.context, "digits").ended_by == "trials"


def test_a_grid_with_fewer_points_than_the_budget_ends_once_nothing_is_worth_more_epochs(
    service: Service,
) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [8, 16, 32]}}
    a_search(service, trials=7, sampler="grid", space=space)
    worker = service.worker()
    while (leases := service.claim(worker)) and leases[0].kind == "trial":
        run(service, leases[0], leases[0].trial_number / 10)
    study = studies.read(service.context, "digits")
    assert (study.state, study.ended_by) == ("finalising", "exhausted")
    assert (study.progress.completed, study.progress.pruned) == (1, 2)


def test_a_batch_that_jumps_over_where_it_is_decided_on_is_decided_on_at_its_end(
    either: Service,
) -> None:
    a_search(either)
    first = either.lease()
    assert either.report(first, 0.5, 0.6, 0.7, 0.8, 0.9) == "pause"
    either.checkpoint(first, 4)
    either.give_back_paused(first)
    paused(either, 0.1, 0.2)
    # It stands on the rung of 3 epochs, alone; on the first rung, which it has left, nobody else may go on.
    assert either.lease().trial_number == 3


def test_a_value_that_is_not_finite_stops_it_wherever_it_is(either: Service) -> None:
    a_search(either)
    paused(either, 0.1, 0.2)
    lease = either.lease()
    assert [report(either, lease, value, step) for step, value in ((0, 0.9), (1, None))] == [
        "continue",
        "stop",
    ]
    either.prune(lease)
    told = shown(either, 2)
    assert told.reason is not None
    assert told.reason.text == "Its last value is not finite."


def test_hyperbands_ladders_begin_at_later_rungs(either: Service) -> None:
    a_search(either, trials=12, pruner={"kind": "hyperband", "first_rung": 1, "eta": 3})
    begun = [either.lease().runs_until for _ in range(12)]
    assert set(begun) == {1, 3, None}
    assert begun.count(1) > begun.count(3) > 0


# Whoever asks again


def test_a_repeated_report_is_answered_as_the_first_was(either: Service) -> None:
    a_search(either)
    lease = either.lease()
    assert [either.report(lease, 0.9) for _ in range(2)] == ["pause"] * 2
    assert either.heartbeat(lease) == "pause"
    paused(either, 0.1, 0.2)
    # It would be promoted now; what was said stays said, until it is given back.
    assert either.report(lease, 0.9) == "pause"
    assert either.report(lease, 0.95, step=1) == "pause"
    either.checkpoint(lease, 1)
    either.give_back_paused(lease)
    assert either.lease().trial_number == 0
    assert either.value("SELECT count(*) FROM trimtab.reports WHERE step = 0") == 3


def test_a_report_of_an_attempt_that_is_over_is_refused_and_decides_nothing(
    either: Service,
) -> None:
    a_search(either)
    paused(either, 0.1, 0.2)
    first = either.lease()
    either.expire()
    with pytest.raises(LeaseLost):
        either.report(first, 0.9)
    assert shown(either, 2).runs_until == 1
    either.clock.advance(10)
    again = either.lease()
    assert (again.trial_number, again.runs_until, again.fence) == (2, 1, 2)
    assert report(either, again, 0.9) == "continue"


# Those that are lost


def test_after_the_verdict_a_lost_worker_costs_nothing_where_its_state_is_saved(
    either: Service,
) -> None:
    a_search(either)
    lost = either.lease()
    assert either.report(lost, 0.9) == "pause"
    either.checkpoint(lost, 0)
    assert either.expire() == 1
    told = shown(either, 0)
    assert (told.state, told.paused_by_search, told.crashes) == ("paused", True, 1)
    paused(either, 0.1, 0.2)
    again = either.lease()
    assert (again.trial_number, again.runs_until) == (0, 3)
    assert again.resume is not None
    intact(either)


def test_without_a_saved_state_it_trains_what_was_lost_and_is_decided_on_anew(
    either: Service,
) -> None:
    a_search(either)
    paused(either, 0.1, 0.2)
    first = either.lease()
    assert report(either, first, 0.9) == "continue"
    either.checkpoint(first, 0)
    assert [either.report(first, 0.9, step=step) for step in (1, 2)] == ["continue", "pause"]
    assert either.expire() == 1
    told = shown(either, 2)
    assert (told.state, told.paused_by_search, told.runs_until) == ("queued", False, 3)
    either.clock.advance(10)
    again = either.lease()
    assert (again.trial_number, again.runs_until, again.fence) == (2, 3, 2)
    assert again.resume is not None
    assert again.resume.step == 0
    assert [report(either, again, 0.9, step) for step in (1, 2)] == ["continue", "pause"]
    intact(either)


def test_a_worker_that_must_leave_after_the_verdict_gives_it_back_as_paused(
    either: Service,
) -> None:
    a_search(either)
    lease = either.lease()
    assert either.report(lease, 0.9) == "pause"
    either.checkpoint(lease, 0)
    either.drain(lease)
    assert (shown(either, 0).state, shown(either, 0).paused_by_search) == ("paused", True)


def test_a_checkpoint_of_what_the_search_paused_is_kept(service: Service) -> None:
    a_search(service)
    paused(service, 0.9)
    service.clock.advance(1e6)
    assert artifacts.collect(service.context, 900) == 0


# What people say


def test_a_study_that_is_paused_and_resumed_keeps_apart_who_paused_its_trials(
    either: Service,
) -> None:
    a_search(either)
    paused(either, 0.1, 0.2)
    running = either.lease()
    assert report(either, running, 0.9) == "continue"
    studies.pause(either.context, "digits")
    assert either.claim(either.worker()) == ()
    assert report(either, running, 0.9, step=1) == "pause"
    assert [(one.state, one.paused_by_search) for one in all_shown(either)] == [
        ("paused", True),
        ("paused", True),
        ("paused", False),
    ]
    intact(either)
    studies.resume(either.context, "digits")
    assert [one.state for one in all_shown(either)] == ["paused", "paused", "queued"]
    again = either.lease()
    assert (again.trial_number, again.runs_until) == (2, 3)
    assert report(either, again, 0.9, step=2) == "pause"
    intact(either)


def test_where_it_is_decided_on_while_the_study_is_paused_the_next_report_is(
    either: Service,
) -> None:
    a_search(either)
    running = either.lease()
    studies.pause(either.context, "digits")
    assert report(either, running, 0.9) == "pause"
    assert (shown(either, 0).paused_by_search, shown(either, 0).reason) == (False, None)
    studies.resume(either.context, "digits")
    again = either.lease()
    assert (again.trial_number, again.runs_until) == (0, 1)
    assert report(either, again, 0.9, step=1) == "pause"
    assert shown(either, 0).paused_by_search
    intact(either)


def test_a_cancelled_study_cancels_what_the_search_paused(either: Service) -> None:
    a_search(either)
    paused(either, 0.1)
    running = either.lease()
    assert either.report(running, 0.9) == "pause"
    studies.cancel(either.context, "digits")
    either.give_back_paused(running)
    assert [(one.state, one.paused_by_search) for one in all_shown(either)] == [
        ("cancelled", False)
    ] * 2
    intact(either)


def test_a_stopped_study_ends_with_what_runs_and_prunes_what_is_paused(
    either: Service, database_url: str
) -> None:
    a_search(either, trials=9)
    paused(either, 0.1, 0.2)
    good, bad = either.lease(), either.lease()
    assert report(either, good, 0.9) == "continue"
    studies.stop(either.context, "digits")
    assert [one.state for one in all_shown(either)] == [
        "pruned",
        "pruned",
        "running",
        "running",
    ]
    intact(either)
    assert either.report(bad, 0.05) == "stop"
    assert either.prune(bad) == "pruned"
    assert [report(either, good, 0.9, step) for step in range(1, 9)] == ["continue"] * 8
    either.complete(good, 0.9)
    study = studies.read(either.context, "digits")
    assert (study.state, study.ended_by) == ("finalising", "stopped")
    told = shown(either, 1)
    assert told.reason is not None
    assert told.reason.text.startswith("The search ended while the trial was paused. ")
    storage = storage_on(database_url)
    frozen = storage.get_all_trials(storage.get_study_id_from_name("digits"))
    assert [(one.state.name, one.value) for one in frozen] == [
        ("PRUNED", 0.1),
        ("PRUNED", 0.2),
        ("COMPLETE", 0.9),
        ("PRUNED", 0.05),
    ]
    storage.engine.dispose()
    intact(either)


def test_at_the_end_of_the_wall_time_what_is_paused_is_pruned_and_what_runs_finishes(
    either: Service,
) -> None:
    a_search(either, trials=9, budget={"wall_time_s": 50})
    paused(either, 0.1, 0.2)
    running, leaving = either.lease(), either.lease()
    assert report(either, running, 0.9) == "continue"
    assert either.report(leaving, 0.3) == "pause"
    either.clock.advance(51)
    assert either.claim(either.worker()) == ()
    either.sweep()
    assert [one.state for one in all_shown(either)] == [
        "pruned",
        "pruned",
        "running",
        "running",
    ]
    either.give_back_paused(leaving)
    assert shown(either, 3).state == "pruned"
    assert either.report(running, 0.9, step=1) == "finish"
    either.complete(running, 0.9)
    study = studies.read(either.context, "digits")
    assert (study.state, study.ended_by) == ("finalising", "wall_time")
    intact(either)


def test_a_study_with_paused_trials_can_be_deleted(either: Service) -> None:
    a_search(either)
    paused(either, 0.1)
    studies.delete(either.context, "digits")
    assert either.value("SELECT count(*) FROM trimtab.trials") == 0
    assert either.claim(either.worker()) == ()


# Who waits


def test_a_claim_that_has_to_wait_is_served_by_another_study(either: Service) -> None:
    a_search(either, trials=2)
    paused(either, 0.1)
    running = either.lease()
    assert either.claim(either.worker()) == ()
    either.study("other", budget={"trials": 1})
    assert either.lease().study == "other"
    # Nothing else is left, and something has to be completed.
    assert either.report(running, 0.05) == "pause"


def test_whoever_waits_is_woken_when_a_trial_ends_and_not_in_studies_that_pause_nobody(
    either: Service,
) -> None:
    a_search(either, trials=2)
    paused(either, 0.1)
    running = either.lease()
    either.study("other", budget={"trials": 2})
    other = either.lease()
    with listening(either) as rings:
        either.complete(other, 0.5)
        assert rings() == 0
        assert either.fail(running, "crashed") == "failed"
        assert rings() == 1
    assert either.lease().trial_number == 0


def test_the_last_ones_that_the_model_is_made_of_run_at_the_same_time(either: Service) -> None:
    a_search(either, trials=3, finish={"refit": False, "ensemble": 2})
    paused(either, 0.1, 0.2)
    either.fail(either.lease(), "crashed")
    found = [either.lease() for _ in range(2)]
    assert {(one.trial_number, one.runs_until) for one in found} == {(0, None), (1, None)}
    assert either.claim(either.worker()) == ()


# Two replicas


def test_a_trial_that_is_paused_no_more_is_not_taken_up(service: Service) -> None:
    a_search(service)
    paused(service, 0.1)
    study_id = service.value("SELECT study_id FROM trimtab.studies")
    taken: list[LeaseRow | None] = []
    for _ in range(2):
        with service.context.database.statements() as connection:
            row = taking_up.take_up(
                connection,
                study_id,
                0,
                3,
                None,
                worker_id=service.worker(),
                claim_id=uuid4(),
                ordinal=0,
            )
        taken.append(row)
    first, second = taken
    assert first is not None
    assert (first.fence, first.runs_until) == (2, 3)
    assert second is None
    intact(service)


def test_two_claims_at_once_take_up_a_paused_trial_once(replicas: Replicas) -> None:
    a_search(replicas.one, trials=3)
    paused(replicas.one, 0.1, 0.2)
    assert report(replicas.one, replicas.one.lease(), 0.05) == "pause"
    workers = [replicas.one.worker() for _ in range(4)]
    answers = at_once(
        *(
            lambda service=service, worker=worker: service.claim(worker)
            for service, worker in zip(replicas.alternate(4), workers, strict=True)
        )
    )
    assert [one.trial_number for leases in answers for one in leases] == [1]
    replicas.assert_intact()


def test_a_rung_is_decided_by_what_another_replica_has_stored(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    a_search(one, trials=9)
    paused(one, 0.1, 0.2)
    mine, theirs = one.lease(), two.lease()
    assert report(two, theirs, 0.9) == "continue"
    # Of the three that this replica knew, it would have been the best.
    assert report(one, mine, 0.5) == "pause"
    replicas.assert_intact()


def test_no_other_replica_decides_before_a_decision_is_stored(replicas: Replicas) -> None:
    one, two = replicas.one, replicas.two
    a_search(one, trials=9)
    paused(one, 0.1, 0.2)
    lease = two.lease()
    study_id = one.value("SELECT study_id FROM trimtab.studies")
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(two.report(lease, 0.9)))
    document = one.context.documents.known(study_id)
    assert document is not None
    with deciding.alone(one.context, study_id, document) as study:
        assert (study.next_number, study.may_begin) == (3, True)
        other.start()
        until(lambda: one.value(_WAITING) == 1)
        assert told == []
    other.join()
    assert told == ["continue"]
    replicas.assert_intact()


def test_many_workers_of_two_replicas_keep_the_budget_and_train_no_epoch_twice(
    replicas: Replicas,
) -> None:
    a_search(replicas.one, trials=14)
    workers = [replicas.one.worker() for _ in range(4)]

    def work(service: Service, place: int) -> None:
        idle = 0
        while idle < 20:
            leases = service.claim(workers[place])
            if not leases or leases[0].kind != "trial":
                idle += 1
                continue
            idle = 0
            run(service, leases[0], (leases[0].trial_number * 7 % 14) / 14)

    at_once(
        *(
            lambda service=service, place=place: work(service, place)
            for place, service in enumerate(replicas.alternate(4))
        )
    )
    study = studies.read(replicas.one.context, "digits")
    assert (study.trials_created, study.ended_by) == (14, "trials")
    twice = replicas.one.rows(
        "SELECT trial_id, step FROM trimtab.reports GROUP BY trial_id, step HAVING count(*) > 1"
    )
    assert twice == []
    replicas.assert_intact()


# The audit


def an_audited_search(service: Service, audit: float) -> None:
    search = {"sampler": "random", "pruner": ASHA, "audit": audit}
    service.study(search=search, fixed={"epochs": EPOCHS}, budget={"trials": 4})


def test_an_audited_trial_runs_on_where_it_would_have_been_paused(either: Service) -> None:
    an_audited_search(either, 1.0)
    lease = either.lease()
    assert report(either, lease, 0.5) == "continue"
    told = shown(either, 0)
    assert told.reason is not None
    assert (told.reason.rule, told.reason.epoch, told.runs_until) == ("audit", 1, None)
    assert told.reason.text.startswith(
        "It runs on for the audit, where it would have been paused."
    )
    assert [report(either, lease, 0.5, step) for step in (1, 2)] == ["continue", "continue"]
    intact(either)


def test_a_value_that_is_not_finite_ends_an_audited_trial_of_a_search_that_pauses(
    either: Service,
) -> None:
    an_audited_search(either, 1.0)
    lease = either.lease()
    assert [report(either, lease, value, step) for step, value in enumerate((0.5, None))] == [
        "continue",
        "stop",
    ]
    told = shown(either, 0).reason
    assert told is not None
    assert (told.rule, told.epoch) == ("asha", 2)


def test_an_audited_trial_stays_one_whatever_is_decided_on_it_later(either: Service) -> None:
    an_audited_search(either, 1.0)
    lease = either.lease()
    report(either, lease, 0.5)
    later = Decision("continue", None, Reason(rule="freeze_thaw", text="It promises most."))
    with either.context.database.transaction() as connection:
        reports.decide(connection, lease.lease_id, later)
    told = shown(either, 0).reason
    assert told is not None
    assert told.rule == "audit"


def test_what_ends_while_it_is_paused_is_told_with_its_reason_everywhere(
    either: Service,
) -> None:
    a_search(either, trials=2)
    paused(either, 0.5, 0.25)
    studies.stop(either.context, "digits")
    told = shown(either, 1)
    assert (told.state, told.reason and told.reason.rule) == ("pruned", "asha")
    assert told.reason is not None
    (attribute,) = either.rows(
        "SELECT u.value_json::json #>> '{}' FROM public.trial_user_attributes u JOIN trimtab.trials USING (trial_id) "
        "WHERE u.key = 'reason' AND number = 1"
    )
    assert attribute[0] == told.reason.text
    bodies = either.rows("SELECT body FROM trimtab.events WHERE kind = 'trial_pruned'")
    assert told.reason.text in [row[0]["reason"]["text"] for row in bodies]
    intact(either)


def test_the_event_of_a_pause_tells_whether_it_was_the_search_that_paused(
    either: Service,
) -> None:
    a_search(either, trials=2)
    paused(either, 0.5)
    person = either.lease()
    studies.pause(either.context, "digits")
    either.give_back_paused(person)
    rows = either.rows(
        "SELECT body ? 'reason' FROM trimtab.events WHERE kind = 'trial_paused' ORDER BY id"
    )
    assert [row[0] for row in rows] == [True, False]
