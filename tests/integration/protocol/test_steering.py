"""A person adds a trial to a study that runs, stops one, and has one tried again."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState

from service.storage.optuna_view import cached
from service.use_cases import editing, enqueuing, steering, studies, trials
from tests.support.protocol import Service
from tests.support.protocol_invariants import broken
from tests.support.races import Replicas, at_once
from trimtab.contract.edits import BudgetEdit, StudyEdit
from trimtab.contract.leases import Lease
from trimtab.contract.problems import (
    BudgetSpent,
    GridTakesNoTrials,
    IdempotencyKeyReused,
    Invalid,
    Problem,
    StudyNotActive,
    StudyNotFound,
    TrialNotActive,
    TrialNotFailed,
    TrialNotFound,
)
from trimtab.contract.search_space import Scalar
from trimtab.contract.trials import Trial

VALUES: Mapping[str, Scalar] = {"learning_rate": 1e-3, "batch_size": 32}


def add(service: Service, key: str | None = None, **values: Any) -> int:
    return enqueuing.enqueue(service.context, "digits", values or VALUES, key)


def trial(service: Service, number: int = 0) -> Trial:
    return trials.read(service.context, "digits", number)


def stop(service: Service, number: int = 0) -> Trial:
    steering.stop(service.context, "digits", number)
    return trial(service, number)


def retry(service: Service, number: int = 0) -> Trial:
    steering.retry(service.context, "digits", number)
    return trial(service, number)


# A configuration to try next


def test_an_added_trial_is_the_next_one_and_takes_a_trial_of_the_budget(
    either: Service,
) -> None:
    either.study(budget={"trials": 2})
    assert add(either) == 0
    waits = trial(either)
    assert (waits.state, waits.proposed_by, waits.hyperparameters) == (
        "queued",
        "enqueued",
        VALUES,
    )
    lease = either.lease()
    assert (lease.trial_number, lease.hyperparameters, lease.fence) == (0, VALUES, 1)
    assert either.lease().trial_number == 1
    with pytest.raises(
        BudgetSpent, match=r"All 2 trials .*`trimtab study edit digits --trials N`"
    ):
        add(either)
    either.complete(lease, 0.5)
    assert broken(either.context.database) == {}


def test_optuna_shows_an_added_trial_as_its_own_enqueue_does(service: Service) -> None:
    service.study()
    add(service)
    study = optuna.load_study(study_name="digits", storage=cached(service.context.database))
    (shown,) = study.get_trials()
    assert shown.state == OptunaState.WAITING
    assert shown.system_attrs["fixed_params"] == VALUES
    assert (shown.params, shown.user_attrs["proposed_by"]) == (VALUES, "enqueued")


def test_names_that_are_left_open_get_the_prior_of_the_trials_number(service: Service) -> None:
    space = {
        "learning_rate": {
            "kind": "float",
            "low": 1e-5,
            "high": 1e-1,
            "log": True,
            "prior": 1e-3,
        },
        "weight_decay": {"kind": "float", "low": 0.0, "high": 0.1},
    }
    search = {"initial_trials": 3, "sampler": "random", "pruner": "none"}
    service.study("twin", space=space, search=search)
    proposed = [service.lease().hyperparameters for _ in range(2)]
    studies.pause(service.context, "twin")
    service.study(space=space, search=search)
    for number in range(2):
        assert add(service, weight_decay=0.05) == number
    added = [service.lease().hyperparameters for _ in range(2)]
    assert added == [{**values, "weight_decay": 0.05} for values in proposed]


def test_points_to_begin_with_come_behind_it_and_none_is_lost(service: Service) -> None:
    first = [
        {"learning_rate": 1e-2, "batch_size": 16},
        {"learning_rate": 1e-4, "batch_size": 64},
    ]
    service.study(first_trials=first, budget={"trials": 9}, search={"known_recipes": False})
    add(service)
    got = [service.lease() for _ in range(4)]
    assert [lease.hyperparameters for lease in got[:3]] == [VALUES, *first]
    assert [trial(service, n).proposed_by for n in range(3)] == [
        "enqueued",
        *["first_trials"] * 2,
    ]
    assert got[3].trial_number == 3
    assert broken(service.context.database) == {}


def test_points_to_begin_with_that_the_budget_does_not_pay_are_left_out(
    service: Service,
) -> None:
    first = [
        {"learning_rate": 1e-2, "batch_size": 16},
        {"learning_rate": 1e-4, "batch_size": 64},
    ]
    service.study(first_trials=first, budget={"trials": 2}, search={"known_recipes": False})
    add(service)
    assert [service.lease().hyperparameters for _ in range(2)] == [VALUES, first[0]]
    assert service.claim(service.worker()) == ()


def test_a_paused_study_takes_trials_and_runs_them_when_it_goes_on(service: Service) -> None:
    service.study()
    studies.pause(service.context, "digits")
    add(service)
    assert service.claim(service.worker()) == ()
    studies.resume(service.context, "digits")
    assert service.lease().hyperparameters == VALUES


def test_the_first_lease_of_an_added_trial_is_the_studys_probe(service: Service) -> None:
    service.study(probed=False)
    add(service)
    add(service)
    probe = service.lease()
    assert service.claim(service.worker()) == ()
    service.begin(probe)
    assert service.lease().trial_number == 1


def test_the_sampler_counts_an_added_trial_as_running(service: Service) -> None:
    service.study(search={"sampler": "tpe", "pruner": "none"})
    (study,) = service.rows("SELECT study_id, document FROM trimtab.studies")
    document = service.context.documents.of(study.study_id, study.document)
    sampling = service.context.sampling

    def seen() -> list[int]:
        """The numbers of the trials that a proposal is made from."""
        with sampling.proposal(study.study_id, document, claim_id="x", next_number=1):
            pass
        history = sampling._studies[study.study_id]._history  # pyright: ignore[reportPrivateUsage]
        return [one.number for one in history.capped(None)]

    assert seen() == []
    add(service)
    assert seen() == [0]


@pytest.mark.parametrize(
    ("values", "pointer", "code", "says"),
    [
        ({"learning_rte": 1e-3}, "/values/learning_rte", "not_searched", "did you mean"),
        ({"epochs": 9}, "/values/epochs", "not_searched", "is fixed in this study"),
        (
            {"learning_rate": 1.0},
            "/values/learning_rate",
            "outside_its_dimension",
            "show -o json",
        ),
        ({"batch_size": True}, "/values/batch_size", "outside_its_dimension", ""),
    ],
)
def test_values_that_the_space_lacks_are_refused_each_at_its_place(
    service: Service, values: Mapping[str, Scalar], pointer: str, code: str, says: str
) -> None:
    service.study()
    with pytest.raises(Invalid) as raised:
        enqueuing.enqueue(service.context, "digits", values, None)
    (fault,) = raised.value.errors
    assert (fault.pointer, fault.code) == (pointer, code)
    assert says in fault.message
    assert studies.read(service.context, "digits").trials_created == 0


def test_a_repeated_request_adds_no_second_trial_and_another_one_under_its_key_is_refused(
    replicas: Replicas,
) -> None:
    replicas.one.study()
    numbers = at_once(*(lambda on=on: add(on, "a key") for on in replicas.alternate(4)))
    assert numbers == [0] * 4
    with pytest.raises(IdempotencyKeyReused):
        add(replicas.two, "a key", batch_size=16)
    assert add(replicas.two, "another key") == 1
    replicas.assert_intact()


def test_added_trials_and_claims_at_once_never_exceed_the_budget(replicas: Replicas) -> None:
    replicas.one.study(budget={"trials": 5})
    claims = [lambda on=on: on.claim(on.worker()) for on in replicas.alternate(4)]
    adds = [lambda on=on: add(on) for on in replicas.alternate(4)]
    answers = at_once(*claims, *adds)
    assert {type(one) for one in answers if isinstance(one, Problem)} <= {BudgetSpent}
    replicas.assert_intact()


def test_an_added_trial_is_refused_where_none_is_begun_any_more(service: Service) -> None:
    with pytest.raises(StudyNotFound):
        add(service)
    service.study(budget={"trials": 9, "wall_time_s": 100})
    running = service.lease()
    service.clock.advance(100)
    with pytest.raises(BudgetSpent, match="wall time of the search, 100 s, is over"):
        add(service)
    service.complete(running, 0.5)
    with pytest.raises(StudyNotActive, match="finalising"):
        add(service)


def test_a_grid_takes_no_trials(service: Service) -> None:
    space = {"batch_size": {"kind": "choices", "choices": [16, 32]}}
    service.study(space=space, search={"sampler": "grid"})
    with pytest.raises(GridTakesNoTrials):
        add(service, batch_size=16)


# Stopping one trial


def test_a_running_trial_that_a_person_stops_is_pruned_with_its_curve(either: Service) -> None:
    either.study(budget={"trials": 2})
    lease, other = either.lease(), either.lease()
    assert either.report(lease, 0.5) == "continue"
    assert stop(either).state == "running"
    assert either.heartbeat(other) == "continue"
    assert either.report(lease, 0.6, step=1) == "stop"
    assert either.prune(lease) == "pruned"
    ended = trial(either)
    assert [point.value for point in ended.curve] == [0.5, 0.6]
    assert ended.reason is not None
    assert (ended.reason.rule, ended.reason.epoch) == ("person", 1)
    assert ended.reason.text == "A person stopped it after 1 epoch."
    assert stop(either) == ended
    assert broken(either.context.database) == {}


def test_a_heartbeat_tells_it_too(service: Service) -> None:
    service.study()
    lease = service.lease()
    stop(service)
    assert service.heartbeat(lease) == "stop"


@pytest.mark.parametrize("how", ["drain", "expire", "crash", "paused"])
def test_a_stopped_trial_is_not_tried_again_when_its_worker_fails(
    service: Service, how: str
) -> None:
    service.study()
    lease = service.lease()
    stop(service)
    if how == "drain":
        service.drain(lease)
    elif how == "expire":
        service.expire()
    elif how == "paused":
        studies.pause(service.context, "digits")
        service.give_back_paused(lease)
    else:
        service.fail(lease, "crashed", retryable=True)
    assert trial(service).state == "cancelled"
    assert broken(service.context.database) == {}


def test_a_trial_that_waits_is_cancelled_and_its_study_goes_on_without_it(
    service: Service,
) -> None:
    service.study(budget={"trials": 2})
    add(service)
    add(service)
    stopped = stop(service)
    assert (stopped.state, stopped.error_kind) == ("cancelled", "cancelled")
    assert stopped.reason is not None
    assert stopped.reason.text == "A person stopped it after 0 epochs."
    lease = service.lease()
    assert (lease.trial_number, lease.hyperparameters) == (1, VALUES)
    service.complete(lease, 0.5)
    assert service.lease().kind == "final"
    assert broken(service.context.database) == {}


def test_the_last_trial_that_is_stopped_ends_the_study(service: Service) -> None:
    service.study(budget={"trials": 1})
    add(service)
    stop(service)
    assert studies.read(service.context, "digits").state == "done"


def test_a_trial_that_has_ended_is_not_stopped(service: Service) -> None:
    service.study()
    service.complete(service.lease(), 0.5)
    with pytest.raises(TrialNotActive, match="Trial 0 is completed") as raised:
        stop(service)
    assert raised.value.state == "completed"
    with pytest.raises(TrialNotFound):
        stop(service, 7)
    with pytest.raises(StudyNotFound):
        steering.stop(service.context, "nobody", 0)


# Trying one again


def test_a_failed_trial_is_tried_again_from_its_checkpoint_without_its_crashes(
    either: Service,
) -> None:
    either.study(budget={"trials": 2}, max_crashes=2)
    either.lease()  # the study goes on
    for _ in range(2):
        lease = either.lease()
        either.checkpoint(lease, 1)
        either.fail(lease, "crashed", retryable=True)
        either.clock.advance(30)
    assert trial(either, 1).error_kind == "poison"
    queued = retry(either, 1)
    assert (queued.state, queued.crashes, queued.error_kind, queued.ended_at) == (
        "queued",
        0,
        None,
        None,
    )
    assert broken(either.context.database) == {}
    again = either.lease()
    assert (again.trial_number, again.fence, again.resume) == (1, 3, either.state(1))
    assert retry(either, 1).state == "running"  # a repeat changes nothing
    assert either.fail(again, "oom") == "failed"  # Optuna's table takes its failure anew
    assert broken(either.context.database) == {}


def test_a_trial_that_failed_by_its_configuration_is_tried_again_where_a_person_insists(
    service: Service,
) -> None:
    service.study()
    service.fail(service.lease(), "diverged")
    retry(service)
    study = optuna.load_study(study_name="digits", storage=cached(service.context.database))
    assert study.get_trials()[0].state == OptunaState.WAITING
    assert service.complete(service.lease(), 0.5) == "completed"
    assert broken(service.context.database) == {}


def test_a_state_that_is_gone_is_not_gone_on_from(service: Service) -> None:
    service.study()
    lease = service.lease()
    service.checkpoint(lease, 1)
    service.fail(lease)
    service.rows("DELETE FROM trimtab.artifacts RETURNING 1")
    retry(service)
    again = service.lease()
    assert (again.resume, again.previous) == (None, None)


@pytest.mark.parametrize("state", ["completed", "pruned", "cancelled"])
def test_only_a_trial_that_failed_is_tried_again(service: Service, state: str) -> None:
    service.study()
    lease = service.lease()
    if state == "completed":
        service.complete(lease, 0.5)
    elif state == "pruned":
        service.prune(lease)
    else:
        service.fail(lease, "cancelled")
    with pytest.raises(TrialNotFailed, match=f"Trial 0 is {state}"):
        retry(service)
    with pytest.raises(TrialNotFound):
        retry(service, 9)


def test_a_study_that_is_over_tries_nothing_again_until_it_gets_more_budget(
    service: Service,
) -> None:
    service.study(budget={"trials": 1})
    service.fail(service.lease(), "oom")
    with pytest.raises(StudyNotActive, match="study edit digits` with more budget") as raised:
        retry(service)
    assert raised.value.state == "done"
    more = StudyEdit(budget=BudgetEdit(trials=2, wall_time_s=100))
    editing.edit(service.context, "digits", more)
    retry(service)
    lease = service.lease()
    service.fail(lease, "oom")
    service.lease()
    service.clock.advance(100)
    with pytest.raises(BudgetSpent):
        retry(service)


def test_a_retry_and_the_end_of_the_study_at_once_leave_nothing_behind(
    replicas: Replicas,
) -> None:
    one, two = replicas.one, replicas.two
    one.study(budget={"trials": 2})
    one.fail(one.lease(), "oom")
    last = one.lease()
    answers: list[Any] = at_once(lambda: one.complete(last, 0.5), lambda: retry(two))
    assert answers[0] == "completed"
    state = studies.read(one.context, "digits").state
    assert state == ("finalising" if isinstance(answers[1], StudyNotActive) else "active")
    replicas.assert_intact()


# In a search that pauses trials


def a_search(service: Service, *, first_rung: int = 1, trials: int = 4) -> None:
    service.study(
        search={
            "sampler": "random",
            "pruner": {"kind": "asha", "first_rung": first_rung, "eta": 3},
        },
        fixed={"epochs": 9},
        budget={"trials": trials},
    )


def pause_by_search(service: Service, value: float) -> Lease:
    lease = service.lease()
    assert service.report(lease, value) == "pause"
    service.checkpoint(lease, 0)
    service.give_back_paused(lease)
    return lease


def test_an_added_trial_gets_its_rung_from_the_scheduler_at_its_first_report(
    either: Service,
) -> None:
    a_search(either, first_rung=2)
    add(either)
    lease = either.lease()
    assert lease.runs_until == 1
    assert either.report(lease, 0.5) == "continue"
    assert trial(either).runs_until == 2
    assert either.report(lease, 0.6, step=1) == "pause"
    assert broken(either.context.database) == {}


def test_a_trial_that_the_search_has_paused_is_pruned_where_a_person_stops_it(
    service: Service,
) -> None:
    a_search(service)
    pause_by_search(service, 0.5)
    pause_by_search(service, 0.6)
    stopped = stop(service, 1)
    assert (stopped.state, stopped.paused_by_search) == ("pruned", False)
    assert stopped.reason is not None
    assert (stopped.reason.rule, stopped.reason.epoch) == ("person", 1)
    assert trial(service, 0).state == "paused"
    assert broken(service.context.database) == {}


def test_a_trial_that_is_about_to_pause_is_pruned_where_a_person_stops_it(
    service: Service,
) -> None:
    a_search(service)
    lease = service.lease()
    assert service.report(lease, 0.5) == "pause"
    stop(service)
    service.give_back_paused(lease)
    assert trial(service).state == "pruned"
    assert broken(service.context.database) == {}


def test_a_search_that_found_nothing_worth_more_epochs_is_taken_up_again_by_more_budget(
    service: Service,
) -> None:
    a_search(service, trials=3)
    worker = service.worker()
    while (leases := service.claim(worker)) and leases[0].kind == "trial":
        (lease,) = leases
        begin = 0 if lease.resume is None else lease.resume.step + 1
        for step in range(begin, 9):
            if service.report(lease, 0.5 + lease.trial_number / 10, step=step) == "pause":
                service.checkpoint(lease, step)
                service.give_back_paused(lease)
                break
        else:
            service.complete(lease, 0.5)
    service.complete_final(leases[0] if leases else service.lease())
    assert service.value("SELECT exhausted FROM trimtab.studies")
    more = StudyEdit(budget=BudgetEdit(trials=4))
    assert editing.edit(service.context, "digits", more).state == "active"
    assert service.lease().trial_number == 3
