"""Fetches all that a lease's runner needs and has not on this machine: states, answers, a teacher, data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trimtab.contract.data_addresses import place_of, scheme_of
from trimtab.contract.leases import Failed, Lease
from trimtab.contract.memory import MemoryFinding
from worker.agent import resuming, teacher_files, trial_outputs
from worker.fetching import uploaded
from worker.fetching.errors import Abandoned, FetchError
from worker.fetching.places import place
from worker.fetching.store import AtHand, Store
from worker.pipe_messages import RunTrial

Rest = Callable[[float], bool]
"""Waits for so many seconds, or less; false when the attempt has to end."""


class ServiceCalls(
    resuming.ServiceCalls,
    uploaded.ServiceCalls,
    teacher_files.ServiceCalls,
    trial_outputs.ServiceCalls,
    Protocol,
):
    """What preparing needs of the client."""


class Ends(Exception):
    """The attempt has to end before its runner has begun; `failed` says why, unless it was asked to."""

    def __init__(self, failed: Failed | None = None) -> None:
        super().__init__()
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Prepared:
    """An order that can be sent.

    Attributes:
        order: The order.
        at_hand: The data that were fetched, which stay at hand until they are released; None where none were.
    """

    order: RunTrial
    at_hand: AtHand | None = None


def prepare(
    lease: Lease,
    folder: Path,
    *,
    client: ServiceCalls,
    teachers: Path,
    store: Store,
    memory: tuple[MemoryFinding, ...],
    rest: Rest,
) -> Prepared:
    """Fetch the files that a lease's runner needs.

    Args:
        lease: The lease.
        folder: The folder for this attempt's checkpoints.
        client: The client of the service.
        teachers: The folder for the models of teachers.
        store: The data sets that this machine has fetched.
        memory: The findings about the devices' memory.
        rest: Is called with the seconds to wait; returns false to give up.

    Raises:
        Ends: A file cannot be fetched, or `rest` gave up.
    """
    go_on = _firm(rest)
    resume = resuming.fetch(lease, folder, client, go_on)
    members = resuming.fetch_members(lease, folder, client, go_on)
    outputs = trial_outputs.fetch(lease, folder, client, go_on)
    try:
        teacher = teacher_files.fetch(lease.teacher, teachers, client, go_on)
    except teacher_files.TeacherUnavailable as error:
        raise Ends(Failed(error="data_missing", message=str(error), retryable=True)) from error
    at_hand = _fetched(lease, store, go_on)
    order = RunTrial(
        lease=lease,
        folder=folder,
        resume=resume,
        members=members,
        teacher=teacher,
        outputs=outputs,
        memory=memory,
        data=_placed(lease, at_hand),
    )
    return Prepared(order, at_hand)


def _firm(rest: Rest) -> Rest:
    """Return a `rest` that leaves at once: what is fetched next would begin without knowing that all has ended."""

    def go_on(seconds: float) -> bool:
        if not rest(seconds):
            raise Ends
        return True

    return go_on


def _fetched(lease: Lease, store: Store, go_on: Rest) -> AtHand | None:
    address = place_of(lease.task.dataset)
    if address is None or scheme_of(address) is None:
        return None
    try:
        return store.fetch(address, go_on)
    except FetchError as error:
        raise Ends(_failed(error)) from error
    except Abandoned as error:
        raise Ends from error


def _placed(lease: Lease, at_hand: AtHand | None) -> Path | None:
    if at_hand is None:
        return None
    try:
        return place(lease.task.dataset, at_hand.folder)
    except FetchError as error:
        at_hand.hold.release()
        raise Ends(_failed(error)) from error


def _failed(error: FetchError) -> Failed:
    # What nobody can train on fails the trial for good where the fault is the data's own; else others may have more luck.
    return Failed(error=error.kind, message=str(error), retryable=error.kind != "user_error")
