"""The pruner of a study's document decides the verdicts, by whatever way a report goes."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.storage.engine import Database
from service.use_cases import studies, trials
from tests.support.contexts import a_context
from tests.support.protocol import Service
from trimtab.contract.leases import Verdict
from trimtab.contract.pruners import MedianPruner
from trimtab.contract.reasons import Reason

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
        ({"kind": "percentile", "startup_trials": 1, "warmup_epochs": 1}, 1),
        ({"kind": "threshold", "lower": 0.2, "warmup_epochs": 2}, 2),
        ({"kind": "plateau", "patience": 1, "min_delta": 0.0}, 4),
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
        budget={"trials": 2},
    )
    by_epochs = {
        lease.hyperparameters["epochs"]: lease for lease in (either.lease(), either.lease())
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


def _stopped(service: Service, **search: Any) -> Reason | None:
    """What is told of a bad trial that reported twice under the median pruner, and then did what it was told."""
    service.study(search={"sampler": "random", "pruner": EAGER, **search}, budget={"trials": 9})
    peer, bad = service.lease(), service.lease()
    service.report(peer, 0.5, 0.75)
    service.complete(peer, 0.75)
    touch(service)
    if service.report(bad, 0.25) == "stop":
        service.prune(bad)
    else:
        service.report(bad, 0.3, step=1)
        service.complete(bad, 0.9)
    return trials.read(service.context, "digits", bad.trial_number).reason


STOPPED = "Its best value 0.25 after 1 epoch is below the median 0.5 of 1 completed trial at that point."


def test_by_both_ways_a_trial_that_stops_is_told_with_its_reason(either: Service) -> None:
    assert _stopped(either) == Reason(rule="median", text=STOPPED, epoch=1)
    (body,) = either.rows("SELECT body FROM trimtab.events WHERE kind = 'trial_pruned'")
    assert body[0]["reason"] == {"rule": "median", "text": STOPPED, "epoch": 1}


def test_the_dashboard_shows_why_a_trial_stopped(service: Service) -> None:
    _stopped(service)
    shown = service.value(
        "SELECT value_json FROM public.trial_user_attributes WHERE key = 'reason'"
    )
    assert json.loads(shown) == STOPPED


def test_by_both_ways_an_audited_trial_runs_on_and_keeps_what_it_was_told_first(
    either: Service,
) -> None:
    found = _stopped(either, audit=1.0)
    assert found is not None
    assert (found.rule, found.epoch) == ("audit", 1)
    assert found.text.endswith(STOPPED)
    assert not either.rows("SELECT FROM public.trial_user_attributes WHERE key = 'reason'")


def test_an_audited_trial_that_is_tried_again_stays_one(service: Service) -> None:
    service.study(
        search={"sampler": "random", "pruner": EAGER, "audit": 1.0}, budget={"trials": 9}
    )
    peer, bad = service.lease(), service.lease()
    service.report(peer, 0.5)
    service.complete(peer, 0.5)
    touch(service)
    service.report(bad, 0.25)
    service.drain(bad)
    found = trials.read(service.context, "digits", bad.trial_number).reason
    assert found is not None
    assert found.rule == "audit"


def test_an_attempt_that_was_told_to_stop_and_was_lost_leaves_no_reason(
    service: Service,
) -> None:
    service.study(search={"sampler": "random", "pruner": EAGER}, budget={"trials": 9})
    peer, bad = service.lease(), service.lease()
    service.report(peer, 0.5)
    service.complete(peer, 0.5)
    touch(service)
    assert service.report(bad, 0.25) == "stop"
    service.drain(bad)
    assert trials.read(service.context, "digits", bad.trial_number).reason is None


def test_a_study_that_is_paused_keeps_no_reason_to_stop(service: Service) -> None:
    service.study(search={"sampler": "random", "pruner": EAGER}, budget={"trials": 9})
    peer, bad = service.lease(), service.lease()
    service.report(peer, 0.5)
    service.complete(peer, 0.5)
    touch(service)
    studies.pause(service.context, "digits")
    assert service.report(bad, 0.25) == "pause"
    assert trials.read(service.context, "digits", bad.trial_number).reason is None


def test_by_both_ways_an_audited_trial_that_diverges_stops_for_that(either: Service) -> None:
    either.study(
        search={"sampler": "random", "pruner": EAGER, "audit": 1.0}, budget={"trials": 9}
    )
    peer, bad = either.lease(), either.lease()
    either.report(peer, 0.5)
    either.complete(peer, 0.5)
    touch(either)
    assert either.report(bad, 0.25) == "continue"
    assert either.report(bad, None, step=1) == "stop"
    found = trials.read(either.context, "digits", bad.trial_number).reason
    assert found is not None
    assert (found.rule, found.epoch) == ("not_finite", 2)
