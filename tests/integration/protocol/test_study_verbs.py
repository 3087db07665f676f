"""The verbs of studies, their final leases and their end, as people rely on them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from service.storage import turn
from service.use_cases import studies, trials
from tests.support.documents import a_document
from tests.support.protocol import A_MODEL, Service
from tests.support.protocol_invariants import broken
from trimtab.contract.leases import Completed, Pruned
from trimtab.contract.problems import (
    ArtifactNotFound,
    Conflict,
    Invalid,
    NoCompletedTrial,
    Problem,
    StudyNotActive,
    StudyNotFound,
    StudyNotIdle,
)
from trimtab.contract.trials import Trial


def trial(service: Service, number: int = 0, study: str = "digits") -> Trial:
    return trials.read(service.context, study, number)


def state(service: Service, study: str = "digits") -> str:
    return studies.read(service.context, study).state


def test_a_paused_study_gives_nothing_and_takes_its_trials_up_again(service: Service) -> None:
    service.study(budget={"trials": 1})
    lease = service.lease()
    service.checkpoint(lease, 2)
    studies.pause(service.context, "digits")
    assert service.heartbeat(lease) == "pause"
    service.give_back_paused(lease)
    assert trial(service).state == "paused"
    assert service.claim(service.worker()) == ()
    studies.resume(service.context, "digits")
    again = service.lease()
    assert (again.fence, again.resume) == (2, service.state(2))


def test_a_stopping_study_finishes_what_has_begun_and_proposes_nothing_more(
    service: Service,
) -> None:
    service.study(budget={"trials": 9})
    queued, running = service.lease(), service.lease()
    service.drain(queued)
    studies.stop(service.context, "digits")
    assert service.heartbeat(running) == "continue"
    service.complete(service.lease(), 0.4)
    assert service.claim(service.worker()) == ()
    service.complete(running, 0.5)
    assert service.lease().kind == "final"


def test_a_cancelled_study_cancels_what_waits_at_once_and_what_runs_at_its_next_word(
    service: Service,
) -> None:
    service.study()
    queued, running = service.lease(), service.lease()
    service.drain(queued)
    studies.cancel(service.context, "digits")
    assert trial(service, queued.trial_number).state == "cancelled"
    assert service.report(running, 0.5) == "cancel"
    assert service.fail(running, "cancelled") == "cancelled"
    with pytest.raises(StudyNotActive):
        studies.resume(service.context, "digits")


def test_at_the_end_of_the_wall_time_what_runs_completes_with_what_it_has_and_the_winner_is_evaluated(
    service: Service,
) -> None:
    service.study(budget={"trials": 9, "wall_time_s": 100})
    service.clock.advance(1000)  # nor does waiting for the first worker
    service.complete(service.lease(), 0.5)
    running, queued = service.lease(), service.lease()
    service.drain(queued)
    service.clock.advance(50)
    service.heartbeat(running)
    studies.pause(service.context, "digits")
    service.clock.advance(1000)  # pauses do not count
    studies.resume(service.context, "digits")
    assert service.report(running, 0.6) == "continue"
    service.clock.advance(51)
    assert service.report(running, 0.7, step=1) == "finish"
    assert service.heartbeat(running) == "finish"
    assert service.claim(service.worker()) == ()
    assert studies.read(service.context, "digits").ended_by is None
    service.complete(running, 0.7)
    assert trial(service, queued.trial_number).state == "cancelled"
    final = service.lease()
    assert (final.kind, final.trial_number) == ("final", running.trial_number)
    assert studies.read(service.context, "digits").ended_by == "wall_time"


@pytest.mark.parametrize("waits", ["at first", "after a pause"])
def test_the_wall_time_does_not_run_while_a_study_waits_for_a_lease(
    either: Service, waits: str
) -> None:
    either.study(budget={"trials": 9, "wall_time_s": 100})
    if waits == "after a pause":
        lease = either.lease()
        either.clock.advance(50)
        studies.pause(either.context, "digits")
        either.give_back_paused(lease)
        studies.resume(either.context, "digits")
    spent = 50 if waits == "after a pause" else 0
    either.clock.advance(1000)
    running = either.lease()
    either.clock.advance(99 - spent)
    assert either.report(running, 0.5) == "continue"
    either.clock.advance(1)
    assert either.report(running, 0.6, step=1) == "finish"


def test_a_study_taken_up_while_a_trial_still_runs_is_on_the_clock_at_once(
    service: Service,
) -> None:
    service.study(budget={"trials": 9, "wall_time_s": 100})
    running = service.lease()
    studies.pause(service.context, "digits")
    studies.resume(service.context, "digits")
    service.clock.advance(100)
    assert service.heartbeat(running) == "finish"


@pytest.mark.parametrize("end", ["trials", "stopped", "exhausted", "cancelled"])
def test_a_study_tells_what_ended_it(either: Service, end: str) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16]}}
    budget = {"trials": 1 if end == "trials" else 9}
    if end == "exhausted":
        either.study(space=space, search={"sampler": "grid"}, budget=budget)
    else:
        either.study(budget=budget)
    lease = either.lease()
    assert studies.read(either.context, "digits").ended_by is None
    if end == "stopped":
        studies.stop(either.context, "digits")
    either.complete(lease, 0.5)
    if end == "exhausted":
        either.claim(either.worker())
    if end == "cancelled":
        studies.cancel(either.context, "digits")
    assert studies.read(either.context, "digits").ended_by == end


def test_a_trial_is_not_begun_again_when_the_wall_time_ends_between_two_looks_of_a_claim(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.study(budget={"trials": 1, "wall_time_s": 100})
    service.drain(service.lease())
    list_candidates = turn.candidates

    def list_and_wait(connection: Connection, **given: Any) -> list[turn.Candidate]:
        listed = list_candidates(connection, **given)
        service.clock.advance(101)
        return listed

    monkeypatch.setattr(turn, "candidates", list_and_wait)
    assert service.claim(service.worker()) == ()


def test_a_study_without_a_completed_trial_is_done_at_once_and_says_why(
    service: Service,
) -> None:
    service.study(budget={"trials": 1})
    service.prune(service.lease())
    study = studies.read(service.context, "digits")
    assert (study.state, study.final) == ("done", None)
    assert study.problem is not None
    with pytest.raises(NoCompletedTrial):
        studies.best(service.context, "digits")


def test_a_study_whose_grid_is_used_up_ends_before_its_budget(service: Service) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32]}}
    service.study(space=space, search={"sampler": "grid"}, budget={"trials": 9})
    for value in (0.4, 0.5):
        service.complete(service.lease(), value)
    service.claim(service.worker())
    final = service.lease()
    assert (final.kind, final.hyperparameters) == ("final", {"batch_size": 32})


def finalising(service: Service, **changes: Any) -> None:
    """A study whose winner is trial 1, with a best checkpoint before its last one."""
    service.study(budget={"trials": 3}, **changes)
    for value in (0.5, 0.8, 0.7):
        lease = service.lease()
        service.checkpoint(lease, 3, best=lease.trial_number)
        service.complete(lease, value)


def test_the_winner_alone_gets_a_final_lease_from_its_best_checkpoint(service: Service) -> None:
    finalising(service)
    final = service.lease()
    assert (final.kind, final.trial_number, final.validation_accuracy) == ("final", 1, 0.8)
    assert final.resume == service.state(1)
    assert service.claim(service.worker()) == ()
    service.complete_final(final)
    assert service.complete_final(final) == "completed"
    scores = studies.best(service.context, "digits").final
    assert scores is not None
    assert (scores.test_accuracy, scores.test_accuracy_before) == (0.9, 0.1)
    assert studies.model_sha256(service.context, "digits") == A_MODEL
    assert state(service) == "done"


def test_where_less_is_better_the_lowest_trial_wins_everywhere(service: Service) -> None:
    task = {**a_document()["task"], "objective": "loss"}
    service.study(task=task, budget={"trials": 3})
    for value in (0.5, 0.2, 0.3):
        service.complete(service.lease(), value)
    final = service.lease()
    assert (final.trial_number, final.validation_value) == (1, 0.2)
    assert final.validation_accuracy is None
    service.complete_final(final, 0.3)
    found = studies.best(service.context, "digits")
    assert (found.trial.number, found.trial.objective, found.trial.value) == (1, "loss", 0.2)
    assert found.trial.validation_accuracy is None
    assert found.final is not None
    assert (found.final.objective, found.final.test_value) == ("loss", 0.3)
    assert (found.final.test_accuracy, found.final.test_value_before) == (None, None)
    assert found.final.metrics == {
        "test_loss": 0.3,
        "test_accuracy_before": 0.1,
        "test_count": 360,
    }
    (summary,) = studies.page(service.context, before=None, size=9)[0].studies
    assert (summary.objective, summary.best_value) == ("loss", 0.2)
    assert summary.best_validation_accuracy is None


def test_a_final_lease_is_queued_again_after_a_crash_and_given_up_after_too_many(
    service: Service,
) -> None:
    finalising(service, max_crashes=2)
    assert service.lease().fence == 1
    service.expire()
    assert state(service) == "finalising"
    service.clock.advance(300)
    final = service.lease()
    assert (final.kind, final.fence, final.resume) == ("final", 2, service.state(1))
    assert service.fail(final, retryable=True) == "failed"
    study = studies.read(service.context, "digits")
    assert (study.state, study.final) == ("done", None)
    assert study.problem is not None
    assert trial(service, 1).state == "completed"


def test_a_final_lease_takes_scores_with_a_model_and_nothing_else(service: Service) -> None:
    finalising(service)
    final = service.lease()
    refused: list[tuple[type[Problem], Callable[[], object]]] = [
        (Conflict, lambda: service.report(final, 0.5)),
        (Conflict, lambda: service.checkpoint(final, 9)),
        (Invalid, lambda: service.settle(final, Pruned())),
        (Invalid, lambda: service.complete(final, 0.9)),
        (
            ArtifactNotFound,
            lambda: service.settle(final, Completed(value=0.9, model_sha256="0" * 64)),
        ),
    ]
    for problem, verb in refused:
        with pytest.raises(problem):
            verb()
    assert service.complete_final(final) == "completed"


def counts(service: Service) -> dict[str, int]:
    tables = service.rows(
        """SELECT table_schema || '.' || table_name FROM information_schema.tables
           WHERE table_schema IN ('public', 'trimtab') AND table_type = 'BASE TABLE'"""
    )
    return {table: service.value(f"SELECT count(*) FROM {table}") for (table,) in tables}


def test_a_delete_is_refused_while_trials_run_and_leaves_no_row_behind(
    service: Service,
) -> None:
    service.study("other")
    service.report(service.lease(), 0.1)
    studies.pause(service.context, "other")
    before = counts(service)
    finalising(service)
    final = service.lease()
    with pytest.raises(StudyNotIdle):
        studies.delete(service.context, "digits")
    service.complete_final(final)
    studies.delete(service.context, "digits")
    with pytest.raises(StudyNotFound):
        studies.delete(service.context, "digits")
    after = counts(service)
    outlive = ("trimtab.workers", "trimtab.artifacts")
    assert after == before | {table: after[table] for table in outlive}
    assert broken(service.context.database) == {}
