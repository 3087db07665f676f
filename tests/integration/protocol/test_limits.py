"""Limits of a search beside its trials and its wall time: seconds of devices, epochs, a target, no progress."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.use_cases import studies
from tests.support.fast_path import FastService
from tests.support.protocol import Service
from tests.support.races import Replicas
from trimtab.contract.budget import EndedBy
from trimtab.contract.leases import Lease


def ended_by(service: Service) -> EndedBy | None:
    return studies.read(service.context, "digits").ended_by


def may_begin(service: Service) -> bool:
    return bool(service.claim(service.worker()))


def test_a_search_ends_with_the_trial_that_reaches_the_target(either: Service) -> None:
    either.study(budget={"trials": 9, "target_value": 0.9})
    below, running, at_target = either.lease(), either.lease(), either.lease()
    either.report(running, 0.5)
    either.complete(below, 0.89)
    assert either.report(running, 0.6, step=1) == "continue"
    either.complete(at_target, 0.9)
    assert not may_begin(either)
    assert either.report(running, 0.7, step=2) == "finish"
    either.complete(running, 0.7)
    assert ended_by(either) == "target_value"


def test_the_target_of_a_loss_is_reached_from_above(service: Service) -> None:
    task = {
        "kind": "classification",
        "dataset": {"kind": "builtin", "name": "digits"},
        "objective": "loss",
    }
    service.study(task=task, budget={"trials": 9, "target_value": 0.3})
    service.complete(service.lease(), 0.31)
    service.complete(service.lease(), 0.3)
    assert service.lease().kind == "final"
    assert ended_by(service) == "target_value"


def test_an_intermediate_value_reaches_no_target(either: Service) -> None:
    either.study(budget={"trials": 9, "target_value": 0.9})
    lease = either.lease()
    assert either.report(lease, 0.95) == "continue"
    assert may_begin(either)


def test_what_waits_is_cancelled_when_the_target_is_reached(service: Service) -> None:
    service.study(budget={"trials": 9, "target_value": 0.9})
    waiting, at_target = service.lease(), service.lease()
    service.drain(waiting)
    service.complete(at_target, 0.95)
    assert service.lease().kind == "final"
    assert studies.read(service.context, "digits").progress.cancelled == 1


def test_the_epochs_of_all_trials_together_are_kept_exactly(either: Service) -> None:
    either.study(budget={"trials": 9, "epochs": 6})
    first, second = either.lease(), either.lease()
    # 2 of 6 are begun by them; after these two reports 4, then 6.
    assert [either.report(lease, 0.1) for lease in (first, second)] == ["continue"] * 2
    assert [either.report(lease, 0.1, step=1) for lease in (first, second)] == ["continue"] * 2
    assert either.report(first, 0.1, step=2) == "finish"
    assert not may_begin(either)
    assert either.report(second, 0.1, step=2) == "finish"
    either.complete(first, 0.1)
    either.complete(second, 0.1)
    assert studies.read(either.context, "digits").progress.epochs == 6
    assert ended_by(either) == "epochs"


def test_an_epoch_that_a_trial_left_is_there_for_another(either: Service) -> None:
    either.study(budget={"trials": 9, "epochs": 3})
    first, second = either.lease(), either.lease()
    assert either.report(first, 0.1) == "continue"
    assert not may_begin(either)
    either.fail(second, "diverged")
    third = either.lease()
    assert either.report(first, 0.1, step=1) == "finish"
    assert either.report(third, 0.1) == "finish"


def test_epochs_that_a_crash_made_a_trial_train_again_are_counted(service: Service) -> None:
    service.study(budget={"trials": 9, "epochs": 3})
    lease = service.lease()
    service.report(lease, 0.1, 0.2)
    service.drain(lease)
    again = service.lease()
    assert service.report(again, 0.1) == "finish"


def test_a_trial_that_waits_is_not_taken_up_without_an_epoch_for_it(service: Service) -> None:
    service.study(budget={"trials": 9, "epochs": 2})
    waiting, running = service.lease(), service.lease()
    service.drain(waiting)
    assert service.report(running, 0.1) == "continue"
    assert not may_begin(service)
    assert service.report(running, 0.1, step=1) == "finish"
    service.complete(running, 0.1)
    assert service.lease().kind == "final"
    assert studies.read(service.context, "digits").progress.cancelled == 1


def test_several_reports_in_one_batch_take_their_epochs(service: Service) -> None:
    service.study(budget={"trials": 9, "epochs": 4})
    lease = service.lease()
    assert service.report(lease, 0.1, 0.2, 0.3) == "continue"
    assert service.report(lease, 0.4, step=3) == "finish"


def test_two_replicas_give_the_last_epoch_once(replicas: Replicas) -> None:
    one, other = replicas.one, replicas.two
    for round_ in range(5):
        name = one.study(f"digits-{round_}", budget={"trials": 2, "epochs": 3})
        leases = [one.lease(), one.lease()]
        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(_report, (one, other), leases))
        assert sorted(told) == ["continue", "finish"]
        studies.cancel(one.context, name)


def _report(service: Service, lease: Lease) -> str:
    return service.report(lease, 0.1)


def test_the_seconds_of_devices_add_up_over_workers(either: Service) -> None:
    either.study(budget={"trials": 9, "device_seconds": 100})
    first = either.lease()
    either.clock.advance(40)
    second = either.lease()
    either.clock.advance(29)
    assert either.report(first, 0.1) == "continue"  # 69 + 29
    either.clock.advance(1)
    assert either.report(second, 0.1) == "finish"  # 70 + 30
    assert not may_begin(either)
    either.complete(first, 0.1)
    either.complete(second, 0.1)
    assert ended_by(either) == "device_seconds"
    assert studies.read(either.context, "digits").progress.device_seconds == 100


def test_what_one_worker_trains_at_a_time_counts_once(service: Service) -> None:
    service.study(budget={"trials": 9, "device_seconds": 50})
    worker = service.worker(capacity=2)
    first = service.lease(worker)
    service.clock.advance(10)
    second = service.lease(worker)
    service.clock.advance(30)
    service.complete(first, 0.1)
    service.clock.advance(9)
    assert service.report(second, 0.1) == "continue"
    service.clock.advance(1)
    assert service.report(second, 0.1, step=1) == "finish"


def test_so_many_trials_without_progress_end_the_search(either: Service) -> None:
    either.study(budget={"trials": 9, "no_progress_trials": 2})
    for value in (0.5, 0.4, 0.6, 0.6):
        either.clock.advance(1)
        either.complete(either.lease(), value)
    running = either.lease()
    either.clock.advance(1)
    either.prune(either.lease())
    assert not may_begin(either)
    # What has begun is paid for: it goes on to its end.
    assert either.report(running, 0.5) == "continue"
    either.complete(running, 0.5)
    assert ended_by(either) == "no_progress"


def test_a_trial_that_still_improves_sets_the_search_going_again(service: Service) -> None:
    service.study(budget={"trials": 9, "no_progress_trials": 1})
    service.complete(service.lease(), 0.5)
    last = service.lease()
    service.clock.advance(1)
    service.prune(service.lease())
    assert not may_begin(service)
    service.clock.advance(1)
    service.complete(last, 0.6)
    assert may_begin(service)


def test_nothing_without_a_completed_trial_is_lack_of_progress(service: Service) -> None:
    service.study(budget={"trials": 9, "no_progress_trials": 1})
    service.prune(service.lease())
    assert may_begin(service)


def test_refits_are_paid_from_epochs_and_seconds(service: Service) -> None:
    service.study(
        budget={"trials": 10, "epochs": 40, "device_seconds": 100}, finish={"ensemble": 2}
    )
    limits = service.value("SELECT limits FROM trimtab.studies")
    assert limits == {"epochs": 32, "device_seconds": 80}


def test_limits_that_are_not_given_are_not_asked_for(fast: FastService) -> None:
    fast.study(budget={"trials": 2})
    assert fast.value("SELECT limits FROM trimtab.studies") is None


@pytest.mark.parametrize("budget", [{"epochs": 5}, {"device_seconds": 1}, {"target_value": 1}])
def test_a_limit_that_is_reached_does_not_end_the_finish(
    service: Service, budget: dict[str, float]
) -> None:
    service.study(budget={"trials": 4, **budget}, finish={"refit": True})
    lease = service.lease()
    service.report(lease, 1.0)
    service.clock.advance(1)
    service.complete(lease, 1.0)
    refit = service.lease()
    assert refit.kind == "refit"
    assert service.heartbeat(refit) == "continue"
