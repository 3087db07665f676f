"""Artifacts that nothing needs are removed after a while; what is needed stays for ever."""

import os
import time
from pathlib import Path

import pytest

from service.storage.engine import Database
from service.use_cases import artifacts, leases, studies
from tests.support.documents import a_document
from tests.support.protocol import Service
from trimtab.contract.leases import Checkpoint, CheckpointReport, Completed, Lease
from trimtab.contract.problems import ArtifactNotFound, Unavailable

KEPT_S = 900.0


@pytest.fixture
def service(database: Database, tmp_path: Path) -> Service:
    playing = Service.on(database, tmp_path)
    playing.study()
    return playing


def state(service: Service, content: str, step: int = 0) -> Checkpoint:
    return Checkpoint(step=step, sha256=service.upload(content), bytes=len(content))


def record(service: Service, lease: Lease, newest: Checkpoint, best: Checkpoint | None = None):
    report = CheckpointReport(checkpoint=newest, best=best)
    leases.checkpoint(service.context, lease.lease_id, report)


def collect(service: Service, after_s: float = KEPT_S + 1) -> int:
    service.clock.advance(after_s)
    return artifacts.collect(service.context, KEPT_S)


def left(service: Service) -> set[str]:
    """What is left, by content; every row has its file and every file its row."""
    files = {
        file.name: file.read_text() for file in service.context.artifacts.root.glob("??/*")
    }
    assert files.keys() == {
        row.sha256 for row in service.rows("SELECT * FROM trimtab.artifacts")
    }
    return set(files.values())


def test_what_nothing_needs_is_removed_after_its_time_and_not_before(service: Service) -> None:
    service.upload("between upload and record")
    assert collect(service, KEPT_S - 1) == 0
    assert left(service) == {"between upload and record"}
    assert collect(service) == 1
    assert left(service) == set()


def test_a_running_trial_keeps_its_newest_two_states_and_its_best(service: Service) -> None:
    lease = service.lease()
    for step in range(3):
        record(
            service, lease, state(service, f"state {step}", step), best=state(service, "best")
        )
    assert collect(service) == 1
    assert left(service) == {"state 1", "state 2", "best"}


def test_a_study_tells_what_its_states_and_its_model_take(service: Service) -> None:
    service.upload("nobody's")
    studies.cancel(service.context, "digits")
    service.study("small", budget={"trials": 1})
    assert studies.read(service.context, "small").artifact_bytes == 0
    lease = service.lease()
    record(service, lease, state(service, "123", 0))
    record(service, lease, state(service, "12345", 1), best=state(service, "1234567", 1))
    assert studies.read(service.context, "small").artifact_bytes == 3 + 5 + 7
    service.complete(lease, 0.5)
    model = service.upload("model of 19 bytes..")
    service.settle(service.lease(), Completed(value=0.5, model_sha256=model))
    collect(service)
    assert studies.read(service.context, "small").artifact_bytes == 5 + 7 + 19


def test_a_trial_that_waits_keeps_its_state(service: Service) -> None:
    queued, paused = service.lease(), service.lease()
    record(service, queued, state(service, "queued"))
    record(service, paused, state(service, "paused"))
    service.drain(queued)
    studies.pause(service.context, "digits")
    service.give_back_paused(paused)
    assert collect(service) == 0


@pytest.mark.parametrize(
    ("objective", "values"), [("accuracy", (0.5, 0.9, 0.7)), ("loss", (0.5, 0.1, 0.3))]
)
def test_of_the_trials_that_are_over_only_the_best_keeps_its_states(
    service: Service, objective: str, values: tuple[float, ...]
) -> None:
    studies.cancel(service.context, "digits")
    service.study("measured", task=a_document()["task"] | {"objective": objective})
    for number, value in enumerate(values):
        lease = service.lease()
        newest, best = state(service, f"newest {number}", 1), state(service, f"best {number}")
        record(service, lease, newest, best)
        service.complete(lease, value)
    pruned = service.lease()
    record(service, pruned, state(service, "pruned"))
    service.prune(pruned)
    assert collect(service) == 5
    assert left(service) == {"newest 1", "best 1"}


def test_the_model_of_a_study_stays_until_the_study_is_deleted(service: Service) -> None:
    studies.cancel(service.context, "digits")
    service.study("done", budget={"trials": 1})
    service.complete(service.lease(), 0.5)
    model = service.upload("model")
    service.settle(service.lease(), Completed(value=0.5, model_sha256=model))
    assert collect(service) == 0
    studies.delete(service.context, "done")
    assert collect(service) == 1


def test_until_the_study_is_over_all_that_its_model_is_made_of_is_kept_and_no_state_else(
    service: Service,
) -> None:
    studies.cancel(service.context, "digits")
    service.study("many", budget={"trials": 5}, finish={"refit": True, "ensemble": 2})
    for number, value in enumerate((0.5, 0.9, 0.7)):
        lease = service.lease()
        record(
            service,
            lease,
            state(service, f"newest {number}", 1),
            state(service, f"best {number}"),
        )
        service.complete(lease, value)
    needed = {"newest 1", "best 1", "newest 2", "best 2"}
    collect(service)
    assert left(service) == needed
    for _ in range(2):
        refit = service.lease()
        newest = state(service, f"refit {refit.trial_number}", 1)
        record(service, refit, state(service, "before", 0))
        record(service, refit, newest, newest)
        collect(service)
        assert left(service) == needed | {"before", newest_of(refit)}
        service.complete(refit, 0.1)
        needed |= {newest_of(refit)}
    collect(service)
    assert left(service) == needed
    handed_over, validated = service.upload("handed over"), service.upload("validated")
    outcome = Completed(value=0.5, model_sha256=handed_over, validated_sha256=validated)
    service.settle(service.lease(), outcome)
    collect(service)
    assert left(service) == {"newest 1", "best 1", "handed over", "validated"}
    assert studies.read(service.context, "many").artifact_bytes == sum(map(len, left(service)))


def newest_of(refit: Lease) -> str:
    return f"refit {refit.trial_number}"


def test_a_teacher_stays_as_long_as_anyone_learns_from_it(service: Service) -> None:
    studies.cancel(service.context, "digits")
    service.study("teacher", budget={"trials": 1})
    service.complete(service.lease(), 0.5)
    model = service.upload("model")
    service.settle(service.lease(), Completed(value=0.5, model_sha256=model))
    service.study("pupil", teacher={"kind": "study", "name": "teacher"})
    studies.delete(service.context, "teacher")
    assert collect(service) == 0
    studies.cancel(service.context, "pupil")
    assert collect(service) == 1


def test_bytes_that_are_sent_again_or_told_of_again_are_kept_as_new_ones(
    service: Service,
) -> None:
    lease = service.lease()
    again, told = service.upload("again"), state(service, "told", 1)
    record(service, lease, told)
    service.clock.advance(KEPT_S)
    assert service.upload("again") == again
    record(service, lease, told)
    for step, content in ((2, "later"), (3, "last")):
        record(service, lease, state(service, content, step))
    assert collect(service, KEPT_S - 1) == 0
    assert collect(service) == 2


def test_a_file_that_was_never_recorded_goes_like_any_other(service: Service) -> None:
    service.upload("recorded by nobody")
    service.rows("DELETE FROM trimtab.artifacts RETURNING 1")
    assert collect(service) == 0
    assert left(service) == {"recorded by nobody"}
    assert collect(service) == 1
    assert left(service) == set()


def test_what_an_upload_left_half_done_goes_when_it_does_not_grow(service: Service) -> None:
    folder = service.context.artifacts.root / "ab"
    folder.mkdir(parents=True)
    (folder / ".incoming-dead").write_text("half")
    (folder / ".incoming-live").write_text("half")
    os.utime(folder / ".incoming-dead", (0, time.time() - KEPT_S - 60))
    collect(service)
    assert [file.name for file in folder.iterdir()] == [".incoming-live"]


def test_bytes_removed_while_they_come_in_anew_are_asked_for_again(service: Service) -> None:
    sha256 = service.upload("old")
    service.context.artifacts.remove(sha256)
    with pytest.raises(Unavailable):
        artifacts.record(service.context, sha256, 3)
    assert service.upload("old") == sha256


def test_a_state_that_was_collected_cannot_be_recorded(service: Service) -> None:
    lease, gone = service.lease(), state(service, "gone")
    assert collect(service) == 1
    with pytest.raises(ArtifactNotFound):
        record(service, lease, gone)


def test_one_replica_at_a_time_collects_a_few_times_in_the_time_for_which_things_are_kept(
    service: Service,
) -> None:
    assert collect(service, KEPT_S + 1) == 0
    service.upload("old")
    service.rows(
        "UPDATE trimtab.artifacts SET named_at = named_at - interval '1 h' RETURNING 1"
    )
    assert collect(service, KEPT_S / artifacts.TURNS_PER_LIFE - 1) == 0
    assert collect(service, 2.0) == 1
