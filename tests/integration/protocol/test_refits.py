"""Refits: the best trials are trained anew on train and validation, and then comes the final evaluation."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from service.use_cases import ending, studies
from tests.support.bell import listening
from tests.support.documents import a_study_document
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.finish import Finish, Refits
from trimtab.contract.leases import Completed, Lease, Member, Pruned
from trimtab.contract.problems import (
    Conflict,
    DataChanged,
    Invalid,
    LeaseLost,
    Problem,
    ResultConflict,
    StudyNotActive,
)

VALUES = (0.5, 0.9, 0.7)
BEST_TWO = (1, 2)


def searched(
    service: Service,
    name: str = "digits",
    *,
    ensemble: int = 2,
    seeds: int = 1,
    **changes: Any,
) -> list[Lease]:
    """A study whose search is over, with refits to do of each of its best trials; returns the leases of its trials."""
    finish = {"refit": True, "ensemble": ensemble, "seeds": seeds}
    budget = {"trials": len(VALUES) + ensemble * seeds} | changes.pop("budget", {})
    service.study(name, budget=budget, finish=finish, **changes)
    trials: list[Lease] = []
    for value in VALUES:
        lease = service.lease()
        service.checkpoint(lease, 10 + lease.trial_number, best=lease.trial_number)
        service.complete(lease, value)
        trials.append(lease)
    return trials


def refits(service: Service, count: int = 2) -> list[Lease]:
    """Leases of all refits, each for a worker of its own."""
    leases = [service.lease() for _ in range(count)]
    assert {lease.kind for lease in leases} == {"refit"}
    return leases


def trained(service: Service, lease: Lease, step: int, loss: float = 0.1) -> None:
    """Train a refit to its end."""
    service.checkpoint(lease, step, best=step)
    service.complete(lease, loss)


def members(lease: Lease) -> Sequence[tuple[Any, ...]]:
    return [
        (one.trial_number, one.value, _step(one.validated), _step(one.refit))
        for one in lease.members
    ]


def _step(state: Any) -> int | None:
    return None if state is None else state.step


def study_of(service: Service, name: str = "digits") -> Any:
    return studies.read(service.context, name)


def optunas(service: Service) -> list[tuple[Any, ...]]:
    """All that Optuna knows of the study's trials."""
    tables = ("trials", "trial_values", "trial_intermediate_values", "trial_system_attributes")
    return [
        tuple(row)
        for table in tables
        for row in service.rows(f"SELECT * FROM public.{table} t ORDER BY t::text")
    ]


def test_the_best_trials_are_refitted_and_the_final_lease_has_both_of_each(
    either: Service,
) -> None:
    trials = searched(either)
    assert study_of(either).state == "finalising"
    known = optunas(either)
    leases = refits(either)
    assert either.claim(either.worker()) == ()
    for lease in leases:
        trial = trials[lease.trial_number]
        assert lease.trial_number in BEST_TWO
        assert (lease.seed, lease.recipe) == (trial.seed, trial.recipe)
        assert (lease.hyperparameters, lease.fence) == (trial.hyperparameters, 1)
        assert (lease.resume, lease.previous) == (None, None)
        value = VALUES[trial.trial_number]
        assert members(lease) == [(trial.trial_number, value, trial.trial_number, None)]
        assert lease.validation_value is None
    trained(either, leases[1], 20)
    assert either.claim(either.worker()) == ()
    trained(either, leases[0], 30)
    assert optunas(either) == known
    final = either.lease()
    assert (final.kind, final.trial_number, final.validation_value) == ("final", 1, 0.9)
    assert final.resume == either.state(1)
    refitted = {leases[1].trial_number: 20, leases[0].trial_number: 30}
    assert members(final) == [(1, 0.9, 1, refitted[1]), (2, 0.7, 2, refitted[2])]
    winner = final.members[0]
    assert isinstance(winner, Member)
    assert (winner.seed, winner.recipe) == (trials[1].seed, trials[1].recipe)
    assert broken(either.context.database) == {}


def test_a_study_without_refits_goes_to_its_final_lease_at_once_with_its_members(
    either: Service,
) -> None:
    either.study(budget={"trials": 3}, finish={"refit": False, "ensemble": 2})
    for value in VALUES:
        either.complete(either.lease(), value)
    final = either.lease()
    assert final.kind == "final"
    assert members(final) == [(1, 0.9, None, None), (2, 0.7, None, None)]


def test_a_study_of_an_older_release_evaluates_its_winner_alone(either: Service) -> None:
    either.study(budget={"trials": 5})
    either.rows(
        "UPDATE trimtab.studies SET document = (document::jsonb - 'finish')::json RETURNING 1"
    )
    either.context.documents.forget(1)
    for value in (*VALUES, 0.1, 0.2):
        either.complete(either.lease(), value)
    final = either.lease()
    assert (final.kind, members(final)) == ("final", [(1, 0.9, None, None)])


@pytest.mark.parametrize(
    ("budget", "sampler", "usual"),
    [
        (4, "random", Finish(refit=True, ensemble=1)),
        (7, "random", Finish(refit=True, ensemble=1)),
        (8, "random", Finish(refit=True, ensemble=3, refits=1)),
        (3, "random", Finish(refit=False, ensemble=1)),
        (9, "grid", Finish(refit=False, ensemble=1)),
    ],
)
def test_what_a_document_leaves_open_is_settled_when_the_study_is_created(
    service: Service, budget: int, sampler: str, usual: Finish
) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32]}}
    document = a_study_document(
        finish=None, budget={"trials": budget}, search={"sampler": sampler}, space=space
    )
    for study in (studies.create(service.context, document, None), study_of(service)):
        assert study.document.finish == usual
        assert study.refits == Refits(total=usual.trainings)


def test_refits_are_paid_from_the_budget_and_told_apart_from_trials(either: Service) -> None:
    finish = {"refit": True, "ensemble": 2}
    either.study(budget={"trials": 5, "wall_time_s": 100}, finish=finish)
    (summary,) = studies.page(either.context, before=None, size=9)[0].studies
    assert (summary.trials, summary.refits) == (3, 2)
    assert either.value("SELECT wall_time_s FROM trimtab.studies") == 60
    for value in VALUES:
        either.complete(either.lease(), value)
    running, failing = refits(either)
    assert study_of(either).refits == Refits(total=2, running=2)
    trained(either, running, 3)
    either.fail(failing, "oom")
    told = study_of(either)
    assert told.refits == Refits(total=2, completed=1, failed=1)
    assert (told.trials_created, told.progress.completed) == (3, 3)


def test_fewer_refits_than_members_are_of_the_best_and_leave_the_search_the_rest(
    either: Service,
) -> None:
    finish = {"refit": True, "ensemble": 3, "refits": 1}
    either.study(budget={"trials": 4}, finish=finish)
    (summary,) = studies.page(either.context, before=None, size=9)[0].studies
    assert (summary.trials, summary.refits) == (3, 1)
    for value in VALUES:
        either.complete(either.lease(), value)
    refit = either.lease()
    assert (refit.kind, refit.trial_number) == ("refit", 1)
    assert study_of(either).refits == Refits(total=1, running=1)
    trained(either, refit, 3)
    final = either.lease()
    assert final.kind == "final"
    assert [(one.trial_number, one.refit is None) for one in final.members] == [
        (1, False),
        (2, True),
        (0, True),
    ]


def test_a_search_that_was_stopped_early_refits_as_many_as_there_are(either: Service) -> None:
    either.study(budget={"trials": 9}, finish={"refit": True, "ensemble": 3})
    first, second = either.lease(), either.lease()
    either.complete(first, 0.5)
    studies.stop(either.context, "digits")
    either.complete(second, 0.4)
    leases = refits(either)
    assert {lease.trial_number for lease in leases} == {0, 1}
    assert study_of(either).refits.total == 2
    for lease in leases:
        trained(either, lease, 3)
    assert [one.trial_number for one in either.lease().members] == [0, 1]


def test_a_refit_that_expires_is_queued_again_and_resumes_from_its_own_checkpoint(
    service: Service,
) -> None:
    searched(service, ensemble=1)
    (lost,) = refits(service, 1)
    assert service.heartbeat(lost) == "continue"
    service.checkpoint(lost, 20)
    service.checkpoint(lost, 21)
    service.expire()
    with pytest.raises(LeaseLost):
        service.heartbeat(lost)
    assert service.claim(service.worker()) == ()  # its back-off has not passed
    service.clock.advance(5)
    again = service.lease()
    assert (again.kind, again.fence) == ("refit", 2)
    assert (again.resume, again.previous) == (service.state(21), service.state(20))
    trained(service, again, 22)
    assert members(service.lease()) == [(1, 0.9, 1, 22)]


def test_a_refit_that_is_given_back_waits_for_nothing(either: Service) -> None:
    searched(either, ensemble=1)
    (lease,) = refits(either, 1)
    either.checkpoint(lease, 20)
    either.give_back_paused(
        lease
    )  # a study that is finalising is not paused: it is wanted at once
    again = either.lease()
    assert (again.kind, again.fence, again.resume) == ("refit", 2, either.state(20))


@pytest.mark.parametrize(
    "end", ["oom", "diverged", "crashes", "silence", "cancelled by its worker"]
)
def test_a_refit_that_fails_for_good_is_done_without(service: Service, end: str) -> None:
    searched(service, max_crashes=2)
    good, bad = refits(service)
    trained(service, good, 20)
    service.checkpoint(bad, 30, best=30)
    match end:
        case "oom" | "diverged":
            assert service.fail(bad, end) == "failed"
        case "cancelled by its worker":
            assert service.fail(bad, "cancelled") == "cancelled"
        case _:
            for _ in range(2):
                service.fail(bad, retryable=True) if end == "crashes" else service.expire()
                service.clock.advance(300)
                bad = next(iter(service.claim(service.worker())), bad)
    final = bad if bad.kind == "final" else service.lease()
    refitted = {good.trial_number: 20}
    assert members(final) == [
        (1, 0.9, 1, refitted.get(1)),
        (2, 0.7, 2, refitted.get(2)),
    ]
    service.complete_final(final)
    study = study_of(service)
    assert (study.state, study.problem) == ("done", None)


def test_a_study_all_of_whose_refits_fail_hands_over_what_was_validated(
    either: Service,
) -> None:
    searched(either)
    for lease in refits(either):
        either.fail(lease, "oom")
    assert members(either.lease()) == [(1, 0.9, 1, None), (2, 0.7, 2, None)]


def test_what_no_worker_has_kept_of_a_refit_is_none(either: Service) -> None:
    searched(either, ensemble=1)
    either.complete(refits(either, 1)[0], 0.1)
    assert members(either.lease()) == [(1, 0.9, 1, None)]


def test_a_refit_takes_no_reports_and_is_not_pruned(service: Service) -> None:
    searched(service, ensemble=1)
    (lease,) = refits(service, 1)
    refused: list[tuple[type[Problem], str, Callable[[], object]]] = [
        (Conflict, "takes no reports", lambda: service.report(lease, 0.5)),
        (Invalid, "cannot be pruned", lambda: service.settle(lease, Pruned())),
    ]
    for problem, words, verb in refused:
        with pytest.raises(problem, match=words):
            verb()
    assert service.complete(lease, 0.1) == "completed"


def test_a_repeated_outcome_of_a_refit_is_answered_as_the_first_was(either: Service) -> None:
    searched(either, ensemble=1)
    (lease,) = refits(either, 1)
    assert either.complete(lease, 0.25) == "completed"
    assert either.complete(lease, 0.25) == "completed"
    with pytest.raises(ResultConflict):
        either.complete(lease, 0.5)
    assert either.value("SELECT value FROM trimtab.trials WHERE kind = 'refit'") == 0.25


def test_the_end_of_the_wall_time_stops_no_refit(either: Service) -> None:
    searched(either, ensemble=1, budget={"trials": 10, "wall_time_s": 100})
    studies.stop(either.context, "digits")
    either.clock.advance(0)
    waiting = study_of(either)
    assert waiting.state == "finalising"
    either.rows("UPDATE trimtab.studies SET active_s = 1000 RETURNING 1")
    (lease,) = refits(either, 1)
    assert either.heartbeat(lease) == "continue"
    either.drain(lease)
    trained(either, refits(either, 1)[0], 20)
    assert either.lease().kind == "final"


def test_a_cancelled_study_cancels_its_refits_and_evaluates_nothing(either: Service) -> None:
    searched(either)
    running = either.lease()
    studies.cancel(either.context, "digits")
    assert either.heartbeat(running) == "cancel"
    assert either.fail(running, "cancelled") == "cancelled"
    assert either.claim(either.worker()) == ()
    states = either.rows("SELECT state FROM trimtab.trials WHERE kind = 'refit'")
    assert [row.state for row in states] == ["cancelled", "cancelled"]
    assert study_of(either).refits == Refits(total=2, failed=2)
    assert broken(either.context.database) == {}


def test_a_study_at_its_refits_cannot_be_paused(service: Service) -> None:
    searched(service)
    with pytest.raises(StudyNotActive):
        studies.pause(service.context, "digits")


def test_a_refit_joins_no_group(either: Service) -> None:
    searched(either)
    worker = either.worker(4)
    (one,) = either.claim(worker)
    assert one.kind == "refit"
    assert either.claim(worker, beside="digits") == ()


def test_a_refit_on_other_data_is_set_aside_and_another_worker_takes_it_up(
    either: Service,
) -> None:
    searched(either, ensemble=1)
    strange = either.worker()
    lease = either.lease(strange)
    either.checkpoint(lease, 20)
    with pytest.raises(DataChanged):
        either.begin(lease, data_sha256="e" * 64)
    assert either.claim(strange) == ()
    again = either.lease()
    assert (again.kind, again.fence, again.resume) == ("refit", 2, either.state(20))
    either.begin(again)
    assert either.value("SELECT crashes FROM trimtab.trials WHERE kind = 'refit'") == 0


def test_the_steps_of_a_refit_are_events_of_its_own(service: Service) -> None:
    searched(service, ensemble=1)
    (first,) = refits(service, 1)
    service.checkpoint(first, 1)
    service.drain(first)
    service.complete(refits(service, 1)[0], 0.5)
    events = service.rows(
        "SELECT kind, fence FROM trimtab.events WHERE kind LIKE 'refit%' OR kind LIKE 'final%' ORDER BY id"
    )
    assert [tuple(event) for event in events] == [
        ("refit_queued", 0),
        ("refit_started", 1),
        ("refit_checkpointed", 1),
        ("refit_queued", 1),
        ("refit_started", 2),
        ("refit_settled", 2),
        ("final_queued", 0),
    ]


def test_whoever_waits_is_woken_by_refits_and_by_the_final_lease_after_them(
    service: Service,
) -> None:
    with listening(service) as rings:
        searched(service, ensemble=1)
        rings()
        (lease,) = refits(service, 1)
        assert rings() == 0
        service.drain(lease)
        assert rings() == 1
        (lease,) = refits(service, 1)
        service.complete(lease, 0.1)
        assert rings() == 1


def test_a_study_is_deleted_with_its_refits(service: Service) -> None:
    searched(service)
    studies.cancel(service.context, "digits")
    studies.delete(service.context, "digits")
    assert service.value("SELECT count(*) FROM trimtab.trials") == 0
    assert service.value("SELECT count(*) FROM trimtab.attempts") == 0


def test_a_refit_left_behind_by_a_service_that_died_is_followed_by_the_sweep(
    service: Service,
) -> None:
    searched(service, ensemble=1)
    # Between the outcome of the last refit and what follows from it.
    service.rows("""
        UPDATE trimtab.trials SET state = 'failed', error_kind = 'oom', ended_at = trimtab.now()
        WHERE kind = 'refit' RETURNING 1""")
    service.sweep()
    assert service.lease().kind == "final"


def test_replicas_that_end_the_last_refits_at_once_queue_one_final_lease(
    replicas: Replicas,
) -> None:
    for round_ in range(10):
        name = f"study-{round_}"
        searched(replicas.one, name, priority=round_)
        leases = [(service, service.lease()) for service in replicas.alternate(2)]
        at_once(
            *(
                lambda service=service, lease=lease: service.settle(lease, Completed(value=0.1))
                for service, lease in leases
            ),
            *(
                lambda context=service.context, name=name: ending.follow(context, name)
                for service in replicas.alternate(2)
            ),
        )
        queued = replicas.one.rows(
            """SELECT count(*) FROM trimtab.events e JOIN trimtab.studies s USING (study_id)
               WHERE s.name = :name AND e.kind = 'final_queued'""",
            name=name,
        )
        assert queued[0][0] == 1
        replicas.assert_intact()
        replicas.one.complete_final(replicas.two.lease())
