import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import a_record
from tests.unit.worker.mortal_disk import dying_after
from trimtab.contract import problems
from trimtab.contract.leases import (
    Checkpoint,
    CheckpointReport,
    Completed,
    Failed,
    Outcome,
    Pruned,
    Release,
    Report,
    Reports,
)
from trimtab.contract.records import TrialRecord
from worker.agent.spool import Delivery, Spool
from worker.pipe_messages import StoredFile

SERVER = "http://127.0.0.1:8000"


@dataclass
class FakeService:
    """Remembers what it was told, and refuses a verb as long as a problem stands for it."""

    said: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    refusals: dict[str, problems.Problem] = field(default_factory=dict[str, problems.Problem])

    def record(self, lease_id: UUID, record: TrialRecord) -> None:
        self._hear("record", record.labels_used)

    def report(self, lease_id: UUID, reports: Reports) -> None:
        self._hear("report", [report.step for report in reports.reports])

    def upload(self, path: Path, sha256: str) -> None:
        self._hear("upload", path.read_bytes())

    def checkpoint(self, lease_id: UUID, report: CheckpointReport) -> None:
        self._hear("checkpoint", report.checkpoint.step)

    def release(self, lease_id: UUID, release: Release) -> None:
        self._hear("release", release.reason)

    def settle(self, lease_id: UUID, outcome: Outcome) -> None:
        self._hear("settle", outcome)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.said]

    def _hear(self, verb: str, about: Any) -> None:
        if verb in self.refusals:
            raise self.refusals[verb]
        self.said.append((verb, about))


def a_file(folder: Path, content: bytes = b"state") -> StoredFile:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "file"
    path.write_bytes(content)
    return StoredFile(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def a_delivery(
    tmp_path: Path, ending: Outcome | Release | None = None, **changes: Any
) -> Delivery:
    folder = tmp_path / "checkpoints" / "trial" / "000001"
    file = a_file(folder)
    checkpoint = Checkpoint(step=1, sha256=file.sha256, bytes=file.bytes)
    return Delivery(
        lease_id=uuid4(),
        name="digits/0",
        reports=(Report(step=1, value=0.5),),
        files=(file,),
        checkpoint=CheckpointReport(checkpoint=checkpoint),
        ending=ending or Completed(value=0.9),
        folder=folder,
    ).model_copy(update=changes)


def test_the_last_words_are_said_in_order(tmp_path: Path) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    spool.add(a_delivery(tmp_path))
    spool.empty(service)
    assert service.verbs() == ["report", "upload", "checkpoint", "settle"]


def test_a_record_that_waited_is_told_first_and_of_other_data_nothing_follows(
    tmp_path: Path,
) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    spool.add(a_delivery(tmp_path, record=a_record()))
    spool.empty(service)
    assert service.verbs() == ["record", "report", "upload", "checkpoint", "settle"]
    service = FakeService(refusals={"record": problems.DataChanged()})
    spool.add(a_delivery(tmp_path, record=a_record()))
    spool.empty(service)
    spool.empty(service)
    assert service.said == []


def test_what_was_delivered_is_not_delivered_again(tmp_path: Path) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    spool.add(a_delivery(tmp_path))
    spool.empty(service)
    spool.empty(service)
    assert service.verbs().count("settle") == 1


def test_an_outcome_waits_until_the_service_is_back_even_for_another_process(
    tmp_path: Path,
) -> None:
    service = FakeService(refusals={"settle": problems.Unreachable()})
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(a_delivery(tmp_path, Completed(value=0.75)))
    with pytest.raises(problems.Unreachable):
        spool.empty(service)
    service.refusals.clear()
    Spool(tmp_path / "spool", SERVER).empty(service)
    assert service.said[-1] == ("settle", Completed(value=0.75))


def test_the_oldest_is_delivered_first(tmp_path: Path) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    for value in (0.1, 0.2, 0.3):
        spool.add(
            a_delivery(tmp_path, Completed(value=value), reports=(), files=(), checkpoint=None)
        )
    spool.empty(service)
    assert [outcome.value for _, outcome in service.said] == [0.1, 0.2, 0.3]


def test_one_leases_last_words_are_said_without_the_others(tmp_path: Path) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    deliveries = [
        a_delivery(tmp_path, Completed(value=value), reports=(), files=(), checkpoint=None)
        for value in (0.1, 0.2, 0.3)
    ]
    for delivery in deliveries:
        spool.add(delivery)
    spool.empty(service, only=deliveries[1].lease_id)
    assert service.said == [("settle", Completed(value=0.2))]


def test_one_leases_last_words_are_said_without_the_others_where_the_disk_takes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    one, other = a_delivery(tmp_path), a_delivery(tmp_path)
    spool.add(one)
    spool.add(other)
    spool.empty(service, only=other.lease_id)
    assert service.verbs().count("settle") == 1
    spool.empty(service)
    assert service.verbs().count("settle") == 2


def test_what_is_meant_for_another_service_is_left_alone(tmp_path: Path) -> None:
    service = FakeService()
    Spool(tmp_path / "spool", "http://elsewhere:1").add(a_delivery(tmp_path))
    Spool(tmp_path / "spool", SERVER).empty(service)
    assert service.said == []


@pytest.mark.parametrize(
    "refusal",
    [
        problems.LeaseLost(),
        problems.LeaseNotFound(),
        problems.StudyDeleted(),
        problems.ResultConflict(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_an_outcome_that_is_refused_for_good_is_dropped(
    tmp_path: Path, refusal: problems.Problem
) -> None:
    service = FakeService(refusals={"settle": refusal})
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(a_delivery(tmp_path))
    spool.empty(service)
    service.refusals.clear()
    spool.empty(service)
    assert "settle" not in service.verbs()


@pytest.mark.parametrize(
    "refusal",
    [
        problems.Unavailable(),
        problems.StorageFull(),
        problems.Problem(),
        problems.Unauthorized(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_an_outcome_is_kept_through_what_may_pass(
    tmp_path: Path, refusal: problems.Problem
) -> None:
    service = FakeService(refusals={"settle": refusal})
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(a_delivery(tmp_path))
    with pytest.raises(problems.Problem):
        spool.empty(service)
    service.refusals.clear()
    spool.empty(service)
    assert "settle" in service.verbs()


@pytest.mark.parametrize(
    ("verb", "refusal"),
    [
        ("report", problems.StepConflict()),
        ("checkpoint", problems.CheckpointGoesBack()),
        ("upload", problems.Sha256Mismatch()),
    ],
)
def test_a_refused_detail_does_not_cost_the_outcome(
    tmp_path: Path, verb: str, refusal: problems.Problem
) -> None:
    service = FakeService(refusals={verb: refusal})
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(a_delivery(tmp_path))
    spool.empty(service)
    assert service.verbs()[-1] == "settle"


def test_a_state_that_was_not_stored_is_not_recorded(tmp_path: Path) -> None:
    service = FakeService()
    delivery = a_delivery(tmp_path)
    delivery.files[0].path.unlink()
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(delivery)
    spool.empty(service)
    assert service.verbs() == ["report", "settle"]


def test_a_final_outcome_never_names_a_model_that_was_not_stored(tmp_path: Path) -> None:
    service = FakeService()
    model = a_file(tmp_path / "model")
    outcome = Completed(value=0.9, model_sha256=model.sha256)
    delivery = a_delivery(tmp_path, outcome, files=(model,), checkpoint=None)
    model.path.unlink()
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(delivery)
    spool.empty(service)
    _, settled = service.said[-1]
    assert isinstance(settled, Failed)
    assert settled.retryable


def test_more_reports_than_one_request_may_hold_are_parted(tmp_path: Path) -> None:
    service = FakeService()
    spool = Spool(tmp_path / "spool", SERVER)
    spool.add(
        a_delivery(
            tmp_path, reports=tuple(Report(step=step, value=0.5) for step in range(2500))
        )
    )
    spool.empty(service)
    assert [len(steps) for verb, steps in service.said if verb == "report"] == [1000, 1000, 500]


@pytest.mark.parametrize("ending", [Completed(value=0.9), Pruned(), Failed(error="oom")])
def test_a_settled_trial_leaves_nothing_on_disk(tmp_path: Path, ending: Outcome) -> None:
    spool = Spool(tmp_path / "spool", SERVER)
    delivery = a_delivery(tmp_path, ending)
    spool.add(delivery)
    spool.empty(FakeService())
    assert not delivery.folder.parent.exists()


def test_the_state_of_a_trial_that_goes_on_stays_near(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SERVER)
    delivery = a_delivery(tmp_path, Release(reason="paused"))
    spool.add(delivery)
    spool.empty(FakeService())
    assert delivery.files[0].path.exists()


def test_a_disk_that_takes_nothing_does_not_cost_the_outcome(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    spool.add(a_delivery(tmp_path))
    spool.empty(service)
    assert service.verbs()[-1] == "settle"


def test_a_file_that_is_no_delivery_does_not_stop_the_others(tmp_path: Path) -> None:
    spool, service = Spool(tmp_path / "spool", SERVER), FakeService()
    spool.add(a_delivery(tmp_path))
    (folder,) = (tmp_path / "spool").iterdir()
    (folder / "000000-garbage.json").write_text("{")
    spool.empty(service)
    assert service.verbs()[-1] == "settle"


@given(steps=st.integers(0, 10))
def test_a_process_killed_while_it_spools_loses_all_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("spool")
    kept = a_delivery(tmp_path, Completed(value=0.1))
    Spool(tmp_path / "spool", SERVER).add(kept)
    delivery = a_delivery(tmp_path, Completed(value=0.2))
    with dying_after(steps):
        Spool(tmp_path / "spool", SERVER).add(delivery)
    service = FakeService()
    Spool(tmp_path / "spool", SERVER).empty(service)
    settled = [outcome.value for verb, outcome in service.said if verb == "settle"]
    assert settled in ([0.1], [0.1, 0.2])


@given(steps=st.integers(0, 10))
def test_a_process_killed_while_it_delivers_repeats_rather_than_forgets(
    tmp_path_factory: pytest.TempPathFactory, steps: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("spool")
    Spool(tmp_path / "spool", SERVER).add(a_delivery(tmp_path))
    service = FakeService()
    with dying_after(steps):
        Spool(tmp_path / "spool", SERVER).empty(service)
    Spool(tmp_path / "spool", SERVER).empty(service)
    assert "settle" in service.verbs()
