"""The verbs of the lease protocol one by one, as workers rely on them."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from service.use_cases import leases, studies, trials
from tests.support.protocol import TTL_S, Service
from trimtab.contract.leases import Completed, Lease, Report, Reports
from trimtab.contract.problems import (
    CheckpointGoesBack,
    LeaseLost,
    LeaseNotFound,
    ResultConflict,
    StepConflict,
    WorkerBusy,
)
from trimtab.contract.trials import Trial


def trial(service: Service, number: int = 0, study: str = "digits") -> Trial:
    return trials.read(service.context, study, number)


def test_a_claim_repeated_with_its_id_gets_the_same_lease(service: Service) -> None:
    service.study()
    worker, claim = service.worker(), uuid4()
    first = service.claim(worker, claim_id=claim)
    assert service.claim(worker, claim_id=claim) == first
    assert service.value("SELECT count(*) FROM trimtab.attempts") == 1


def test_a_claim_repeated_after_its_lease_has_ended_gets_nothing_new(service: Service) -> None:
    service.study()
    worker, claim = service.worker(), uuid4()
    (lease,) = service.claim(worker, claim_id=claim)
    service.complete(lease, 0.5)
    with pytest.raises(LeaseLost):
        service.claim(worker, claim_id=claim)
    assert len(service.claim(worker)) == 1


def test_a_claim_goes_on_though_a_study_that_served_it_was_deleted(service: Service) -> None:
    service.study("first", budget={"trials": 1}, priority=2)
    service.study("second", budget={"trials": 2}, priority=1)
    worker, claim = service.worker(capacity=2), uuid4()
    first, second = service.claim(worker, claim_id=claim, capacity=2)
    service.fail(first)
    studies.delete(service.context, "first")
    assert service.claim(worker, claim_id=claim, capacity=3)[0] == second
    assert service.value("SELECT count(*) FROM trimtab.attempts") == 2


def test_what_a_late_copy_of_a_claim_gets_is_got_by_the_next_repeat(service: Service) -> None:
    worker, claim = service.worker(), uuid4()
    assert service.claim(worker, claim_id=claim) == ()
    service.study()
    late_copy = service.claim(worker, claim_id=claim)
    assert service.claim(worker, claim_id=claim) == late_copy
    assert len(late_copy) == 1


def test_a_worker_never_holds_more_leases_than_it_registered_for(service: Service) -> None:
    service.study(budget={"trials": 9})
    worker = service.worker(capacity=2)
    assert len(service.claim(worker, capacity=5)) == 2
    with pytest.raises(WorkerBusy):
        service.claim(worker)


def test_the_study_of_highest_priority_is_served_first(service: Service) -> None:
    service.study("low", priority=1)
    service.study("high", priority=2)
    assert [service.lease().study for _ in range(5)] == ["high"] * 4 + ["low"]


def test_of_equal_studies_the_one_with_fewest_running_trials_is_served_then_the_oldest(
    service: Service,
) -> None:
    for name in ("first", "second"):
        service.study(name)
        service.clock.advance(1)
    served = [service.lease() for _ in range(3)]
    assert [lease.study for lease in served] == ["first", "second", "first"]
    service.complete(served[0], 0.5)
    service.complete(served[2], 0.5)
    assert service.lease().study == "first"


def test_a_queued_trial_is_claimed_before_a_new_one_is_proposed_and_the_longest_waiting_first(
    service: Service,
) -> None:
    service.study(budget={"trials": 9})
    given_back = [service.lease(), service.lease()]
    for lease in reversed(given_back):
        service.drain(lease)
        service.clock.advance(1)
    assert [service.lease().trial_number for _ in range(3)] == [1, 0, 2]


def test_the_budget_is_exact(service: Service) -> None:
    service.study(budget={"trials": 3})
    assert len(service.claim(service.worker(capacity=9), capacity=9)) == 3
    assert service.claim(service.worker()) == ()


def test_a_report_repeated_is_stored_once_and_answered_as_the_first_was(
    service: Service,
) -> None:
    service.study()
    lease = service.lease()
    studies.pause(service.context, "digits")
    assert service.report(lease, 0.5, step=0) == "pause"
    studies.resume(service.context, "digits")
    assert service.report(lease, 0.5, step=0) == "pause"
    assert service.report(lease, 0.6, step=1) == "continue"
    assert service.value("SELECT count(*) FROM trimtab.reports") == 2


def test_one_conflicting_step_refuses_the_whole_batch(service: Service) -> None:
    service.study()
    lease = service.lease()
    service.report(lease, 0.5, step=1)
    with pytest.raises(StepConflict):
        service.report(lease, 0.1, 0.9, 0.3, step=0)
    assert [point.step for point in trial(service).curve] == [1]


def test_a_value_that_is_not_finite_is_kept_as_such(service: Service) -> None:
    service.study()
    service.report(service.lease(), 0.5, None)
    assert [point.value for point in trial(service).curve] == [0.5, None]


def test_a_resumed_attempt_may_report_a_step_anew_and_the_newest_value_counts(
    service: Service,
) -> None:
    service.study(budget={"trials": 1})
    lease = service.lease()
    service.report(lease, 0.1, 0.2)
    service.drain(lease)
    service.report(service.lease(), 0.9, step=1)
    assert [point.value for point in trial(service).curve] == [0.1, 0.9]


def test_all_that_the_newest_attempt_has_measured_is_told_of_a_single_trial(
    service: Service,
) -> None:
    service.study(budget={"trials": 1})
    for loss in (0.7, 0.3):
        lease = service.lease()
        report = Report(step=0, value=0.5, metrics={"train_loss": loss})
        leases.report(service.context, lease.lease_id, Reports(reports=(report,)))
        service.drain(lease)
    assert trial(service).metrics == {0: {"train_loss": 0.3}}
    page = trials.page(service.context, "digits", after=None, size=10, state=None)
    assert page.trials[0].metrics == {}


@pytest.mark.parametrize("says", ["heartbeat", "report"])
def test_a_heartbeat_or_a_report_renews_the_lease(service: Service, says: str) -> None:
    service.study()
    lease = service.lease()
    service.clock.advance(TTL_S - 1)
    late_words()[says](service, lease)
    service.clock.advance(TTL_S - 1)
    assert service.sweep() == 0
    service.clock.advance(2)
    assert service.sweep() == 1


def test_a_lease_past_its_time_is_good_until_it_is_revoked(service: Service) -> None:
    service.study()
    lease = service.lease()
    service.clock.advance(10 * TTL_S)
    assert service.heartbeat(lease) == "continue"
    assert service.sweep() == 0


def test_the_next_attempt_carries_on_from_the_last_checkpoint(service: Service) -> None:
    service.study(budget={"trials": 1})
    lease = service.lease()
    service.checkpoint(lease, 1)
    service.checkpoint(lease, 3)
    service.expire()
    service.clock.advance(300)
    again = service.lease()
    assert again.trial_number == lease.trial_number
    assert again.hyperparameters == lease.hyperparameters
    assert again.fence == 2
    assert again.resume is not None
    assert again.previous is not None
    assert (again.resume.step, again.previous.step) == (3, 1)


def test_the_previous_checkpoint_is_of_an_earlier_step(service: Service) -> None:
    service.study(budget={"trials": 1})
    lease = service.lease()
    for step in (1, 3, 3):
        service.checkpoint(lease, step)
    service.drain(lease)
    again = service.lease()
    assert again.previous is not None
    assert again.previous.step == 1
    service.checkpoint(again, 0)
    service.drain(again)
    assert service.lease().previous is None


def test_a_checkpoint_does_not_go_back_within_an_attempt(service: Service) -> None:
    service.study()
    lease = service.lease()
    service.checkpoint(lease, 3)
    service.checkpoint(lease, 3)
    with pytest.raises(CheckpointGoesBack):
        service.checkpoint(lease, 2)
    service.drain(lease)
    service.checkpoint(service.lease(), 0)


def late_words() -> dict[str, Callable[[Service, Lease], object]]:
    return {
        "report": lambda service, lease: service.report(lease, 0.5),
        "heartbeat": lambda service, lease: service.heartbeat(lease),
        "checkpoint": lambda service, lease: service.checkpoint(lease, 0),
        "drain": lambda service, lease: service.drain(lease),
        "complete": lambda service, lease: service.complete(lease, 0.99),
    }


@pytest.mark.parametrize("word", late_words())
def test_a_late_word_of_a_lost_lease_is_refused_and_leaves_no_trace(
    service: Service, word: str
) -> None:
    service.study(budget={"trials": 1})
    lost = service.lease()
    service.expire()
    service.clock.advance(300)
    service.lease()
    before = service.rows("SELECT * FROM trimtab.events ORDER BY id")
    with pytest.raises(LeaseLost) as refused:
        late_words()[word](service, lost)
    assert refused.value.state == "expired"
    assert service.rows("SELECT * FROM trimtab.events ORDER BY id") == before
    assert trial(service).state == "running"


def test_an_outcome_repeated_is_answered_as_the_first_was_and_another_one_is_refused(
    service: Service,
) -> None:
    service.study()
    lease = service.lease()
    assert service.complete(lease, 0.5) == "completed"
    assert service.complete(lease, 0.5) == "completed"
    with pytest.raises(ResultConflict):
        service.complete(lease, 0.6)
    with pytest.raises(LeaseLost):
        service.report(lease, 0.7, step=9)
    assert trial(service).value == 0.5


def test_a_lease_that_never_was_is_not_found(service: Service) -> None:
    with pytest.raises(LeaseNotFound):
        leases.settle(service.context, uuid4(), Completed(value=0.5))


def test_a_trial_that_ran_out_of_memory_is_pruned_to_optuna_without_a_value(
    service: Service,
) -> None:
    service.study()
    lease = service.lease()
    service.report(lease, 0.7)
    assert service.fail(lease, "oom") == "failed"
    (row,) = service.rows(
        """SELECT p.state::text, v.value FROM public.trials p LEFT JOIN public.trial_values v USING (trial_id)"""
    )
    assert tuple(row) == ("PRUNED", None)
    assert trial(service).error_kind == "oom"


def test_a_retryable_failure_queues_the_same_trial_after_a_back_off_that_doubles(
    service: Service,
) -> None:
    service.study(budget={"trials": 1}, max_crashes=4)
    for crashes, back_off in ((1, 5), (2, 10), (3, 20)):
        assert service.fail(service.lease(), retryable=True) == "queued"
        assert trial(service).crashes == crashes
        service.clock.advance(back_off - 0.5)
        assert service.claim(service.worker()) == ()
        service.clock.advance(1)
    assert service.lease().fence == 4


def test_a_trial_whose_attempts_crash_too_often_is_given_up_as_poison(
    service: Service,
) -> None:
    service.study(budget={"trials": 1}, max_crashes=2)
    service.lease()
    service.expire()
    service.clock.advance(300)
    assert service.fail(service.lease(), retryable=True) == "failed"
    assert (trial(service).error_kind, trial(service).crashes) == ("poison", 2)
    assert "crashed" in (trial(service).error_message or "")


def test_a_release_counts_no_crash_and_the_trial_is_leased_again_at_once(
    service: Service,
) -> None:
    service.study(budget={"trials": 1}, max_crashes=1)
    for fence in (1, 2, 3):
        lease = service.lease()
        assert lease.fence == fence
        service.drain(lease)
        service.drain(lease)  # a repeat says nothing new
    assert trial(service).crashes == 0
    assert [attempt.outcome for attempt in trial(service).attempts] == ["drained"] * 3


def test_each_step_of_a_trials_life_is_an_event(service: Service) -> None:
    service.study(budget={"trials": 1})
    first = service.lease()
    service.report(first, 0.2, 0.3)
    service.checkpoint(first, 1)
    service.fail(first, retryable=True)
    service.clock.advance(300)
    service.complete(service.lease(), 0.5)
    events = service.rows(
        "SELECT kind, fence FROM trimtab.events WHERE trial_id IS NOT NULL ORDER BY id"
    )
    assert [tuple(event) for event in events] == [
        ("trial_started", 1),
        ("reported", 1),
        ("reported", 1),
        ("checkpointed", 1),
        ("trial_queued", 1),
        ("trial_resumed", 2),
        ("trial_completed", 2),
        ("final_queued", 0),
    ]
