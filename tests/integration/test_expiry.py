"""What the sweep spares, on a real Postgres whose clock is told when to move."""

from pathlib import Path

import pytest

from service.storage import tidying
from service.storage.engine import Database
from service.use_cases import expiry
from service.use_cases.expiry import Swept
from tests.support.protocol import TTL_S, Service

EVERY_S = 5.0


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    playing = Service.on(database, tmp_path)
    playing.study(budget={"trials": 20})
    sweep(playing)
    return playing


def sweep(service: Service) -> Swept:
    return expiry.sweep(service.context, EVERY_S)


def pass_time(service: Service, seconds: float) -> Swept:
    """Let time pass with sweeps as usual; what all of them did together."""
    together = [0, 0, 0]
    for _ in range(int(seconds / EVERY_S)):
        service.clock.advance(EVERY_S)
        swept = sweep(service)
        together[0] += swept.expired
        together[1] += swept.extended
        together[2] = max(together[2], swept.held)
    return Swept(*together)


def test_a_lease_whose_holder_is_silent_is_revoked(service: Service) -> None:
    service.lease()
    assert pass_time(service, TTL_S) == Swept()
    assert pass_time(service, 2 * EVERY_S) == Swept(expired=1)


def test_after_an_outage_leases_begin_anew_instead_of_being_revoked(service: Service) -> None:
    lease = service.lease()
    service.clock.advance(10 * TTL_S)
    swept = sweep(service)
    assert (swept.expired, swept.extended) == (0, 1)
    assert pass_time(service, TTL_S - EVERY_S) == Swept()
    service.heartbeat(lease)


def test_a_holder_that_stays_silent_after_an_outage_loses_its_lease_then(
    service: Service,
) -> None:
    service.lease()
    service.clock.advance(10 * TTL_S)
    sweep(service)
    assert pass_time(service, TTL_S + 2 * EVERY_S) == Swept(expired=1)


def test_an_outage_that_is_short_for_a_lease_leaves_it_alone(service: Service) -> None:
    service.study("patient", lease_ttl_s=3600.0, priority=1000, budget={"trials": 1})
    service.lease()  # of an hour
    service.lease()  # of a minute
    service.clock.advance(TTL_S)
    assert sweep(service).extended == 1


def test_most_of_many_leases_get_one_more_time_to_live(service: Service) -> None:
    for _ in range(4):
        service.lease()
    assert pass_time(service, TTL_S + EVERY_S) == Swept(held=4)
    assert pass_time(service, TTL_S - EVERY_S) == Swept(held=4)
    assert pass_time(service, EVERY_S) == Swept(expired=4)


def test_the_many_leases_of_one_silent_worker_are_revoked_at_once(service: Service) -> None:
    silent, *others = service.worker(8), service.worker(), service.worker(), service.worker()
    service.claim(silent, capacity=8)
    kept = [service.lease(worker) for worker in others]
    pass_time(service, TTL_S - EVERY_S)
    for lease in kept:
        service.heartbeat(lease)
    assert pass_time(service, 2 * EVERY_S) == Swept(expired=8)


def test_a_worker_that_speaks_for_some_of_its_leases_is_not_silent(service: Service) -> None:
    workers = [service.worker(2) for _ in range(4)]
    lost = [service.lease(worker) for worker in workers]
    kept = [service.lease(worker) for worker in workers]
    pass_time(service, TTL_S - EVERY_S)
    for lease in kept:
        service.heartbeat(lease)
    assert pass_time(service, 2 * EVERY_S) == Swept(expired=len(lost))


def test_holders_that_come_back_while_a_mass_expiry_is_held_back_keep_their_leases(
    service: Service,
) -> None:
    leases = [service.lease() for _ in range(4)]
    assert pass_time(service, TTL_S + EVERY_S).held == 4
    for lease in leases[:3]:
        service.heartbeat(lease)
    assert pass_time(service, EVERY_S) == Swept(expired=1)


def test_the_next_mass_expiry_is_held_back_too(service: Service) -> None:
    for _ in range(2):
        leases = [service.lease() for _ in range(4)]
        assert pass_time(service, TTL_S + EVERY_S).held == 4
        for lease in leases:
            service.drain(lease)
        pass_time(service, EVERY_S)


def test_while_one_replica_decides_another_leaves_it_alone(service: Service) -> None:
    service.lease()
    service.clock.advance(10 * TTL_S)
    with service.context.database.transaction() as other:
        assert tidying.lock_sweeper(other) is not None
        assert sweep(service) == Swept(pause_s=EVERY_S)


def test_a_clock_that_jumps_forward_costs_no_lease(service: Service) -> None:
    lease = service.lease()
    service.clock.advance(3600)
    assert sweep(service).expired == 0
    service.heartbeat(lease)
    assert pass_time(service, TTL_S - EVERY_S) == Swept()


def test_a_clock_that_jumps_back_costs_no_lease_and_the_fences_keep_their_order(
    service: Service,
) -> None:
    first = service.lease()
    service.clock.advance(-3600)
    assert pass_time(service, TTL_S) == Swept()
    service.heartbeat(first)
    service.drain(first)
    second = service.lease()
    assert (second.trial_number, second.fence) == (first.trial_number, 2)
    service.complete(second, 0.5)
