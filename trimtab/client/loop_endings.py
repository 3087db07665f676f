"""How a trial ends that a person's loop has trained: by what was reported, what the service has said, and how the block was left."""

from collections.abc import Callable
from uuid import UUID

from trimtab.client.loop_failures import failure_of
from trimtab.client.worker_verbs import WorkerVerbs
from trimtab.contract import problems
from trimtab.contract.external import EPOCHS
from trimtab.contract.external_leases import ExternalLease
from trimtab.contract.leases import (
    Completed,
    Failed,
    Outcome,
    Pruned,
    Release,
    Report,
    Verdict,
)

SILENT = (
    "The loop has left its block and reported nothing, so the trial has no value: "
    "call `trial.report(step, value)` at least once."
)


def ending_of(
    lease: ExternalLease,
    error: BaseException | None,
    last: Report | None,
    told: Verdict,
    earlier: Callable[[], float | None],
) -> Outcome | Release:
    """Return what the service is told.

    Args:
        lease: The lease of the trial.
        error: The exception that left the block; None: none did.
        last: The last report of this attempt.
        told: The verdict that the loop was told.
        earlier: Returns the last value that earlier attempts have reported; None: there is none.
    """
    match error:
        case None:
            return _left(lease, last, told, earlier)
        case problems.Unavailable():
            return Release(reason="drain")  # nothing is wrong with the trial
        case Exception():
            return failure_of(error)
        case _:
            return Release(reason="drain")


def deliver(client: WorkerVerbs, lease_id: UUID, ending: Outcome | Release) -> None:
    """Tell the service.

    Raises:
        problems.Problem: the service does not answer, or refuses.
    """
    if isinstance(ending, Release):
        client.release(lease_id, ending)
    else:
        client.settle(lease_id, ending)


def is_silent(ending: Outcome | Release) -> bool:
    """Whether the trial has failed for want of a report."""
    return isinstance(ending, Failed) and ending.message == SILENT


def _left(
    lease: ExternalLease,
    last: Report | None,
    told: Verdict,
    earlier: Callable[[], float | None],
) -> Outcome | Release:
    if last is not None and last.value is None:
        message = f"{lease.task.objective} was not finite at step {last.step}."
        return Failed(error="diverged", message=message)
    match told:
        case "stop":
            return Pruned()
        case "cancel":
            return Failed(error="cancelled")
        case "pause" if not _is_whole(lease, last):
            return Release(reason="paused")
        case _:
            return _completed(lease, last, told, earlier)


def _is_whole(lease: ExternalLease, last: Report | None) -> bool:
    """Whether the trial has all its epochs, as far as the study says how many these are."""
    epochs = lease.hyperparameters.get(EPOCHS)
    return isinstance(epochs, int) and last is not None and last.step + 1 >= epochs


def _completed(
    lease: ExternalLease,
    last: Report | None,
    told: Verdict,
    earlier: Callable[[], float | None],
) -> Outcome:
    if last is not None and last.value is not None:
        return Completed(value=last.value, metrics=last.metrics, measured=last.metrics)
    # One that goes on from a checkpoint of its last step has nothing left to report.
    value = earlier() if lease.resume is not None else None
    if value is not None:
        return Completed(value=value, measured={lease.task.objective: value})
    if told == "finish":
        return Failed(error="cancelled")
    return Failed(error="crashed", message=SILENT)
