"""External studies: their trials are for loops of a person's own, and everything else of a study holds for them too."""

import pytest

from service.storage.engine import Database
from service.use_cases import records, studies, trials
from tests.support.protocol import Service
from tests.support.records import a_record
from trimtab.contract.leases import Completed
from trimtab.contract.problems import Conflict, NoModel, NotExternal, StudyNotFound


def test_a_loop_is_handed_hyperparameters_and_nothing_else(either: Service) -> None:
    either.external()
    (lease,) = either.claim_external(either.own_loop("own"))
    told = lease.model_dump()
    assert set(told["hyperparameters"]) == {"rate", "width"}
    assert told["task"]["objective"] == "accuracy"
    assert not {"model", "recipe", "teacher", "members", "costs"} & set(told)


def test_a_worker_never_takes_trials_of_an_external_study(either: Service) -> None:
    either.external(priority=1000)
    # The process knows its document from now on, as the fast path needs it.
    (trial,) = either.claim_external(either.own_loop("own"))
    worker = either.worker()
    assert either.claim(worker) == ()
    either.study("digits", priority=0)
    (lease,) = either.claim(worker)
    assert lease.study == "digits"
    # Nor one that waits.
    either.drain(trial)
    assert either.claim(either.worker(), capacity=1)[0].study == "digits"
    assert either.value("SELECT state FROM trimtab.trials WHERE lease_id IS NULL") == "queued"


def test_a_loop_takes_trials_of_its_own_study_alone(either: Service) -> None:
    either.study("digits", priority=1000)
    either.external("other", priority=1000)
    either.external("own", priority=0)
    (lease,) = either.claim_external(either.own_loop("own"))
    assert lease.study == "own"


def test_several_loops_share_a_study_from_its_first_trial_on(either: Service) -> None:
    # Without data there is no probe that all others would have to wait for.
    either.external()
    leases = [either.claim_external(either.own_loop("own"))[0] for _ in range(3)]
    assert sorted(one.trial_number for one in leases) == [0, 1, 2]
    assert either.claim_external(either.own_loop("own")) == ()


def test_a_loop_names_an_external_study_that_there_is(service: Service) -> None:
    service.study("digits")
    with pytest.raises(NotExternal):
        service.own_loop("digits")
    with pytest.raises(StudyNotFound):
        service.own_loop("nothing")


def test_an_external_study_is_done_with_its_last_trial(either: Service) -> None:
    either.external(budget={"trials": 2})
    loop = either.own_loop("own")
    for value in (0.25, 0.75):
        (lease,) = either.claim_external(loop)
        either.report(lease, value)
        either.settle(lease, Completed(value=value, measured={"accuracy": value}))
    seen = studies.read(either.context, "own")
    assert (seen.state, seen.ended_by, seen.problem, seen.final) == (
        "done",
        "trials",
        None,
        None,
    )
    assert (seen.refits.total, seen.document.finish) == (0, None)
    assert studies.best(either.context, "own").trial.value == 0.75
    assert trials.read(either.context, "own", 0).direction == "maximize"
    with pytest.raises(NoModel, match="keep their models themselves"):
        studies.model_sha256(either.context, "own")


def test_an_external_study_in_which_nothing_completed_says_why(service: Service) -> None:
    service.external(budget={"trials": 1})
    (lease,) = service.claim_external(service.own_loop("own"))
    service.fail(lease)
    seen = studies.read(service.context, "own")
    assert seen.state == "done"
    assert (
        seen.problem == "No trial completed, so there is no model. Trial 0: crashed: It fell."
    )


def test_loops_that_lack_something_are_set_aside_and_the_study_is_blocked(
    service: Service,
) -> None:
    service.external()
    service.worker()  # which could not serve the study
    loop = service.own_loop("own")
    (lease,) = service.claim_external(loop)
    assert service.fail(lease, "data_missing", retryable=True) == "queued"
    assert service.claim_external(loop) == ()
    assert studies.read(service.context, "own").blocked
    (again,) = service.claim_external(service.own_loop("own"))
    assert (again.trial_number, again.fence) == (0, 2)
    assert not studies.read(service.context, "own").blocked


def test_a_study_of_workers_is_blocked_though_a_loop_lives(service: Service) -> None:
    service.study("digits")
    service.external()
    service.own_loop("own")
    lease = service.lease()
    service.fail(lease, "data_missing", retryable=True)
    assert studies.read(service.context, "digits").blocked


def test_a_loop_tells_no_record_of_data(service: Service) -> None:
    service.external()
    (lease,) = service.claim_external(service.own_loop("own"))
    with pytest.raises(Conflict, match="no data"):
        records.store(service.context, lease.lease_id, a_record())


@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [
        ("auto", "auto"),
        ("tpe", "median"),
        ("random", "hyperband"),
        ("gp", "freeze_thaw"),
        ("gp", "plateau"),
    ],
)
def test_every_search_goes_with_an_external_study(
    service: Service, sampler: str, pruner: str
) -> None:
    service.external(
        fixed={"epochs": 9}, search={"pruner": {"kind": pruner}, "sampler": sampler}
    )
    loop = service.own_loop("own")
    (lease,) = service.claim_external(loop)
    assert service.report(lease, 12.5) in ("continue", "pause")
    service.complete(lease, 12.5)
    assert studies.best(service.context, "own").trial.value == 12.5


def test_a_search_that_pauses_trials_does_so_with_those_of_loops(either: Service) -> None:
    either.external(
        fixed={"epochs": 9}, search={"pruner": {"kind": "asha"}, "sampler": "random"}
    )
    loops = [either.own_loop("own") for _ in range(3)]
    leases = [either.claim_external(loop)[0] for loop in loops]
    assert {one.runs_until for one in leases} == {1}
    verdicts = [either.report(one, number / 10) for number, one in enumerate(leases)]
    assert verdicts[:2] == ["pause", "pause"]
    assert verdicts[2] == "continue"
    either.checkpoint(leases[0], 0)
    either.give_back_paused(leases[0])
    assert studies.read(either.context, "own").progress.paused == 1


def test_the_time_of_an_external_studys_first_trial_is_spent(
    service: Service, database: Database
) -> None:
    service.external(budget={"trials": 3, "wall_time_s": 100})
    (lease,) = service.claim_external(service.own_loop("own"))
    service.clock.advance(40)
    service.fail(lease, "data_missing", retryable=True)
    assert service.value("SELECT active_s FROM trimtab.studies") == 40
