"""How many leases there is work for: what somebody who starts workers goes by."""

import threading
from typing import Any, cast

from service import housekeeping
from service.housekeeping import Readiness
from service.use_cases import demand
from tests.support.protocol import Service
from trimtab.contract.demand import Demand, DemandOfNeed

NO_FINISH = {"ensemble": 1, "refit": False}


def now(
    service: Service, gpu_memory_gb: float | None = None, devices: int | None = None
) -> Demand:
    return demand.now(service.context, gpu_memory_gb, devices)


def counts(service: Service) -> tuple[int, int]:
    told = now(service)
    assert told.total == told.waiting + told.leased
    return told.waiting, told.leased


def study(service: Service, name: str = "digits", trials: int = 4, **changes: Any) -> str:
    return service.study(name, budget={"trials": trials}, finish=NO_FINISH, **changes)


def test_what_the_budget_leaves_waits_and_what_runs_is_leased(service: Service) -> None:
    assert counts(service) == (0, 0)
    study(service)
    assert counts(service) == (4, 0)
    lease = service.lease()
    assert counts(service) == (3, 1)
    service.drain(lease)
    assert counts(service) == (4, 0)
    service.complete(service.lease(), 0.5)
    assert counts(service) == (3, 0)


def test_a_study_to_its_end(service: Service) -> None:
    study(service, trials=2)
    for _ in range(2):
        service.complete(service.lease(), 0.5)
    assert counts(service) == (1, 0)  # the final evaluation
    service.complete_final(service.lease())
    assert counts(service) == (0, 0)


def test_a_trial_that_waits_after_a_crash_is_no_demand_yet(service: Service) -> None:
    study(service, trials=1)
    service.fail(service.lease(), retryable=True)
    assert counts(service) == (0, 0)
    assert not demand.is_any(service.context)
    service.clock.advance(600)
    assert counts(service) == (1, 0)
    assert demand.is_any(service.context)


def test_a_sweep_rings_for_a_trial_whose_back_off_is_over(service: Service) -> None:
    study(service, trials=1)
    service.fail(service.lease(), retryable=True)
    assert rings_of_one_sweep(service) == 0
    service.clock.advance(600)
    assert rings_of_one_sweep(service) == 1


def test_demand_leaves_out_what_needs_more_devices_than_a_worker_has(service: Service) -> None:
    study(service, "single")
    study(service, "several", trials=3, needs={"devices_per_trial": 2})
    assert [(one.devices_per_trial, one.waiting) for one in now(service).by_need] == [
        (1, 4),
        (2, 3),
    ]
    assert [now(service, devices=count).total for count in (1, 2, 8)] == [4, 7, 7]


def rings_of_one_sweep(service: Service) -> int:
    """Let the service's keeper sweep once, on a database that it has brought to its schema before."""
    stop, rings = Turns(1), list[None]()
    housekeeping.keep(
        service.context,
        Readiness(),
        cast(threading.Event, stop),
        every_s=60.0,
        on_ready=lambda: None,
        ring=lambda: rings.append(None),
    )
    return len(rings)


class Turns:
    """A word to stop that comes after so many waits, which last no time."""

    def __init__(self, turns: int) -> None:
        self._left = turns

    def is_set(self) -> bool:
        """Tell whether the word has come."""
        return self._left < 0

    def wait(self, _seconds: float) -> bool:
        """Count one wait."""
        self._left -= 1
        return self.is_set()


def test_a_study_whose_data_are_not_known_wants_one_worker(service: Service) -> None:
    study(service, probed=False)
    assert counts(service) == (1, 0)
    probe = service.lease()
    assert counts(service) == (0, 1)
    service.begin(probe)
    assert counts(service) == (3, 1)


def test_limits_of_a_study_bound_its_demand(service: Service) -> None:
    study(service, parallel=2)
    assert counts(service) == (2, 0)
    service.lease()
    assert counts(service) == (1, 1)
    service.study(
        "epochs", budget={"trials": 50, "epochs": 3}, finish=NO_FINISH, fixed={"epochs": 1}
    )
    assert counts(service) == (4, 1)


def test_a_paused_study_wants_nobody_and_its_running_trials_are_counted(
    service: Service,
) -> None:
    study(service)
    service.lease()
    service.rows("UPDATE trimtab.studies SET state = 'paused', active_since = NULL RETURNING 1")
    assert counts(service) == (0, 1)


def test_trials_that_a_search_has_paused_want_somebody_to_ask_for_them(
    service: Service,
) -> None:
    study(service, trials=1)
    service.lease()
    service.rows(
        """UPDATE trimtab.trials SET state = 'paused', paused_by_search = true, lease_id = NULL, worker_id = NULL,
               slot = NULL, lease_until = NULL RETURNING 1"""
    )
    assert counts(service) == (1, 0)


def test_loops_of_a_persons_own_are_not_asked_for(service: Service) -> None:
    name = service.external()
    service.claim_external(service.own_loop(name))
    assert counts(service) == (0, 0)


def test_demand_is_told_by_what_devices_studies_need(service: Service) -> None:
    study(service, "any")
    study(service, "large", trials=3, needs={"gpu_memory_gb": 24})
    service.lease(service.gpu(25 * 10**9))
    told = now(service)
    assert (told.waiting, told.leased, told.total) == (6, 1, 7)
    assert [one.gpu_memory_gb for one in told.by_need] == [0, 24]
    of_large = now(service).by_need[1]
    assert of_large.waiting + of_large.leased == 3
    assert now(service, 24).total == 7
    small = now(service, 16)
    assert small.by_need == told.by_need[:1]
    assert (small.total, now(service, 0).total) == (4, 4)
    assert isinstance(told.by_need[0], DemandOfNeed)
