"""`search.seed` over REST: what makes two studies propose the same, and what does not."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Running, a_service

SPACE = {
    "learning_rate": {"kind": "float", "low": 1e-4, "high": 1.0, "log": True},
    "momentum": {"kind": "float", "low": 0.0, "high": 0.9},
}
TRIALS = 14
"""TPE draws the first ten at random."""
by_chance = pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])


@pytest.fixture
def replica(service: Running, database_url: str, tmp_path: Path) -> Generator[Running]:
    """A second service on the same database, which remembers nothing of what the first has read."""
    with a_service(database_url, tmp_path / "artifacts") as running:
        yield running


def create(service: Running, sampler: str, **search: Any) -> str:
    search = {"sampler": sampler, "pruner": "none"} | search
    return service.create(space=SPACE, search=search, budget={"trials": TRIALS}, priority=1000)


def train(service: Running, worker: str, trials: int) -> list[dict[str, float]]:
    """What one worker is given, whose trials are the better the nearer their rate is to 0.01."""
    proposals: list[dict[str, float]] = []
    for _ in range(trials):
        (lease,) = service.claim(worker)
        proposals.append(lease["hyperparameters"])
        complete(service, lease)
    return proposals


def complete(service: Running, lease: dict[str, Any]) -> None:
    value = 1 - abs(lease["hyperparameters"]["learning_rate"] - 0.01)
    path = f"/v1/leases/{lease['lease_id']}/outcome"
    service.call("PUT", path, {"kind": "completed", "value": value})


def _is_corner(point: dict[str, float]) -> bool:
    return all(
        any(point[name] == pytest.approx(side[end]) for end in ("low", "high"))
        for name, side in SPACE.items()
    )


def finish(service: Running, name: str) -> None:
    service.call("POST", f"/v1/studies/{name}:cancel")


@by_chance
def test_one_worker_gets_the_same_proposals_for_the_same_seed_and_others_for_another(
    service: Running, sampler: str
) -> None:
    found: list[list[dict[str, float]]] = []
    for seed in (7, 7, 8):
        name = create(service, sampler, seed=seed)
        found.append(train(service, service.register(), TRIALS))
        finish(service, name)
    assert found[0] == found[1]
    # The best corner of the space is the same for all seeds, and gp may ask for it at any time.
    shared = [one for one, other in zip(found[0], found[2], strict=True) if one == other]
    assert all(_is_corner(one) for one in shared)
    assert len(shared) <= 1


@by_chance
def test_a_study_carried_on_by_another_service_proposes_as_if_nothing_had_happened(
    service: Running, replica: Running, sampler: str
) -> None:
    name = create(service, sampler, seed=7)
    whole = train(service, service.register(), TRIALS)
    finish(service, name)
    create(service, sampler, seed=7)
    worker = service.register()
    assert train(service, worker, 11) + train(replica, worker, TRIALS - 11) == whole


@by_chance
def test_workers_that_share_a_study_are_given_proposals_of_their_own(
    service: Running, replica: Running, sampler: str
) -> None:
    create(service, sampler, seed=7)
    leases = [
        service.claim(service.register())[0] if n % 2 else replica.claim(replica.register())[0]
        for n in range(8)
    ]
    assert len({str(lease["hyperparameters"]) for lease in leases}) == 8


@by_chance
def test_the_slots_of_one_worker_are_given_the_same_proposals_too(
    service: Running, sampler: str
) -> None:
    found: list[list[dict[str, float]]] = []
    for _ in range(2):
        name, worker = create(service, sampler, seed=7), service.register(capacity=4)
        # The first is the study's probe, and runs alone until it has begun.
        leases = [lease for size in (1, 2, 1) for lease in service.claim(worker, capacity=size)]
        found.append([lease["hyperparameters"] for lease in leases])
        for lease in leases:
            complete(service, lease)
        finish(service, name)
    assert found[0] == found[1]
    assert len({str(one) for one in found[0]}) == 4


def test_a_study_that_leaves_its_seed_to_chance_tells_which_one_it_got(
    service: Running,
) -> None:
    told: list[dict[str, Any]] = []
    for _ in range(2):
        name = create(service, "random", seed=None)
        told.append(service.call("GET", f"/v1/studies/{name}").json()["document"]["search"])
        told[-1]["proposals"] = train(service, service.register(), 2)
        finish(service, name)
    assert told[0]["seed"] != told[1]["seed"]
    assert told[0]["proposals"] != told[1]["proposals"]
    create(service, "random", seed=told[0]["seed"])
    assert train(service, service.register(), 2) == told[0]["proposals"]
