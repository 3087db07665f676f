import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from trimtab.contract import problems
from trimtab.contract.leases import CheckpointReport
from worker.agent.uploads import Pair, Uploads, is_due
from worker.pipe_messages import SavedState


def a_state(step: int, sha256: str = "") -> SavedState:
    return SavedState(
        path=Path(f"/states/{step}"), step=step, sha256=sha256 or f"{step:064x}", bytes=1
    )


def a_pair(newest: int, best: int | None = None) -> Pair:
    return Pair(a_state(newest), None if best is None else a_state(best))


@pytest.mark.parametrize(
    ("pair", "last", "waited_s", "took_s", "due"),
    [
        (a_pair(0, 0), None, 1.9, 0.0, False),
        (a_pair(0, 0), None, 2.0, 0.0, True),
        (a_pair(5, 3), a_pair(4, 3), 59.9, 0.0, False),
        (a_pair(5, 3), a_pair(4, 3), 60.0, 0.0, True),
        (a_pair(5, 5), a_pair(4, 3), 2.0, 0.1, True),
        (a_pair(5, 5), a_pair(4, 3), 19.9, 1.0, False),
        (a_pair(5, 5), a_pair(4, 3), 20.0, 1.0, True),
        (a_pair(5, 5), a_pair(5, 5), 3600.0, 0.0, False),
    ],
)
def test_a_new_best_is_uploaded_soon_and_anything_new_after_a_minute(
    pair: Pair, last: Pair | None, waited_s: float, took_s: float, due: bool
) -> None:
    assert is_due(pair, last, waited_s, took_s) == due


class Service:
    """Takes uploads when it is let."""

    def __init__(self, refusal: problems.Problem | None = None) -> None:
        self.refusal = refusal
        self.has_collected = False
        self.open = threading.Event()
        self.begun = threading.Event()
        self.uploaded: list[str] = []
        self.recorded: list[CheckpointReport] = []

    def upload(self, path: Path, sha256: str) -> None:
        self.begun.set()
        assert self.open.wait(30)
        if self.refusal is not None:
            raise self.refusal
        self.uploaded.append(sha256)

    def checkpoint(self, lease_id: UUID, report: CheckpointReport) -> None:
        if self.has_collected:
            raise problems.ArtifactNotFound
        self.recorded.append(report)


def impatient(service: Service) -> Uploads:
    return Uploads(service, uuid4(), waited_s=lambda since: 3600.0)


def test_training_does_not_wait_for_an_upload() -> None:
    service = Service()
    uploads = impatient(service)
    uploads.offer(a_pair(0, 0))
    assert service.begun.wait(30)
    uploads.offer(a_pair(1, 1))
    assert service.uploaded == []
    service.open.set()
    uploads.finish(30)
    assert service.uploaded == [a_state(0).sha256]


def test_a_state_is_recorded_once_both_files_are_stored() -> None:
    service = Service()
    service.open.set()
    uploads = impatient(service)
    uploads.offer(a_pair(4, 2))
    uploads.finish(30)
    assert service.uploaded == [a_state(2).sha256, a_state(4).sha256]
    assert [report.checkpoint.step for report in service.recorded] == [4]
    assert uploads.missing(a_pair(5, 2)) == (a_state(5),)


def test_an_upload_that_fails_records_nothing_and_is_missing_still() -> None:
    service = Service(problems.Unreachable())
    service.open.set()
    uploads = impatient(service)
    uploads.offer(a_pair(4, 2))
    uploads.finish(30)
    assert service.recorded == []
    assert uploads.missing(a_pair(4, 2)) == (a_state(2), a_state(4))


def test_what_was_collected_before_it_was_recorded_is_missing_again() -> None:
    service = Service()
    service.open.set()
    service.has_collected = True
    uploads = impatient(service)
    uploads.offer(a_pair(4, 2))
    uploads.finish(30)
    assert uploads.missing(a_pair(4, 2)) == (a_state(2), a_state(4))
