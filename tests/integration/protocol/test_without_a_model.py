"""A study that ends without a model tells the error that is to blame, wherever a person looks."""

from typing import Any

import pytest

from service.use_cases import studies
from tests.support.protocol import Service
from trimtab.contract.leases import Failed, Lease
from trimtab.contract.problems import NoCompletedTrial, NoModel


def fail(service: Service, lease: Lease, message: str, *, retryable: bool = False) -> None:
    service.settle(lease, Failed(error="crashed", message=message, retryable=retryable))


def finalising(service: Service, **changes: Any) -> Lease:
    """The final lease of a study whose only trial has completed."""
    service.study(budget={"trials": 1}, **changes)
    service.complete(service.lease(), 0.5)
    return service.lease()


def test_a_final_evaluation_that_failed_tells_its_error(either: Service) -> None:
    fail(either, finalising(either), "RuntimeError: cannot export")
    told = "The final evaluation failed, so there is no model: crashed: RuntimeError: cannot export"
    assert studies.read(either.context, "digits").problem == told
    assert studies.best(either.context, "digits").problem == told
    with pytest.raises(NoModel, match="cannot export"):
        studies.model_sha256(either.context, "digits")
    ((body,),) = either.rows("SELECT body FROM trimtab.events WHERE kind = 'study_done'")
    assert body["problem"] == told


def test_one_that_failed_each_time_tells_how_often_and_how_the_last_time(
    either: Service,
) -> None:
    final = finalising(either, max_crashes=2)
    fail(either, final, "no memory", retryable=True)
    either.clock.advance(300)
    fail(either, either.lease(), "no memory again", retryable=True)
    assert studies.read(either.context, "digits").problem == (
        "The final evaluation failed, so there is no model: Failed 2 times; the last: crashed: no memory again"
    )


def test_a_final_evaluation_that_was_cancelled_says_so(either: Service) -> None:
    either.settle(finalising(either), Failed(error="cancelled"))
    told = studies.read(either.context, "digits")
    assert told.problem == "The final evaluation was cancelled, so there is no model."


def test_a_study_of_which_nothing_completed_tells_its_last_failure(either: Service) -> None:
    either.study(budget={"trials": 2})
    for message in ("the first", "the second"):
        fail(either, either.lease(), message)
        either.clock.advance(1)
    told = "No trial completed, so there is no model. Trial 1: crashed: the second"
    assert studies.read(either.context, "digits").problem == told
    with pytest.raises(NoCompletedTrial, match="Trial 1: crashed: the second"):
        studies.best(either.context, "digits")
