"""The pruner of a study's document decides the verdicts, by whatever way a report goes."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.storage.engine import Database
from service.use_cases import studies
from tests.support.contexts import a_context
from tests.support.protocol import Service
from trimtab.contract.leases import Verdict
from trimtab.contract.pruners import MedianPruner

EAGER = {"kind": "median", "startup_trials": 1, "warmup_epochs": 0}


def touch(service: Service) -> None:
    """Let the next report see what has completed: the clock of its room is another one."""
    service.context.sampling.touch(service.value("SELECT study_id FROM trimtab.studies"))


def verdicts(service: Service, pruner: Any) -> list[Verdict]:
    """What a bad trial is told at each of four epochs, when one better trial has completed."""
    service.study(search={"sampler": "random", "pruner": pruner}, budget={"trials": 9})
    peer, bad = service.lease(), service.lease()
    service.report(peer, *[0.5] * 4)
    service.complete(peer, 0.5)
    touch(service)
    return [service.report(bad, 0.1, step=step) for step in range(4)]


@pytest.mark.parametrize(
    ("pruner", "continued"),
    [
        (EAGER, 0),
        (EAGER | {"warmup_epochs": 3}, 3),
        (EAGER | {"warmup_epochs": None}, 2),
        (EAGER | {"startup_trials": 2}, 4),
        ("median", 4),
        ({"kind": "none"}, 4),
    ],
    ids=str,
)
def test_both_ways_wait_for_as_many_epochs_and_trials_as_the_document_says(
    either: Service, pruner: Any, continued: int
) -> None:
    told = ["continue"] * continued + ["stop"] * (4 - continued)
    assert verdicts(either, pruner) == told


def test_by_both_ways_a_trial_is_compared_at_equal_shares_of_the_epochs_that_it_is_to_have(
    either: Service,
) -> None:
    either.study(
        search={"sampler": "random", "pruner": EAGER},
        space={"epochs": {"kind": "choices", "choices": [4, 8]}},
        fixed={},
        budget={"trials": 12},
    )
    by_epochs = {
        lease.hyperparameters["epochs"]: lease for lease in (either.lease() for _ in range(12))
    }
    either.report(by_epochs[8], *[0.1 * (step + 1) for step in range(8)])
    either.complete(by_epochs[8], 0.8)
    touch(either)
    # At half of its epochs the better one had 0.4, and 0.2 at the second of them.
    told = [either.report(by_epochs[4], 0.25, step=step) for step in range(2)]
    assert told == ["continue", "stop"]


def test_a_study_that_was_stored_before_pruners_had_parameters_goes_on_as_it_was(
    service: Service, database: Database, tmp_path: Path
) -> None:
    service.study(search={"sampler": "random"}, budget={"trials": 9})
    document = json.loads(service.value("SELECT CAST(document AS text) FROM trimtab.studies"))
    document["search"] = {
        "sampler": "random",
        "pruner": "median",
        "seed": 0,
        "startup_trials": 1,
        "warmup_epochs": 1,
    }
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE trimtab.studies SET document = CAST(:document AS json)"),
            {"document": json.dumps(document)},
        )
    later = Service(a_context(database, tmp_path), service.clock)
    peer, other = later.lease(), later.lease()
    later.report(peer, 0.5, 0.5)
    later.complete(peer, 0.5)
    touch(later)
    assert [later.report(other, 0.1, step=step) for step in range(2)] == ["continue", "stop"]
    told = studies.read(later.context, "digits").document.search.pruner
    assert told == MedianPruner(kind="median", startup_trials=1, warmup_epochs=1)
