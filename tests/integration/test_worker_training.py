"""Real workers that train: the runner of the project on handwritten digits; only the service is scripted."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from tests.support import scripted_service
from tests.support.heard import about, kept, settle, weights_of
from tests.support.leases import a_lease
from tests.support.scripted_service import ScriptedService
from tests.support.workers import a_worker
from trimtab.contract import problems
from trimtab.contract.leases import Checkpoint, Lease
from trimtab.contract.validation_outputs import ValidationOutputs
from worker.__main__ import FAILED, main
from worker.training import safetensors_files
from worker.training.model.export import load_exported
from worker.training.model.glyphnet import GlyphNet
from worker.training.objective.validation_outputs import unpack

RUNNER = "worker.runner"
EPOCHS = 4


@pytest.fixture(scope="module")
def service() -> Generator[ScriptedService]:
    with scripted_service.running() as service:
        service.ttl_s = 60
        yield service


@pytest.fixture
def own_service() -> Generator[ScriptedService]:
    """A service that no other worker knows."""
    with scripted_service.running() as service:
        service.ttl_s = 60
        yield service


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def worker(service: ScriptedService, cache: Path) -> Generator[None]:
    """One warm worker for every test that does not end it."""
    with a_worker(service.address, cache, runner=RUNNER):
        yield


def curve(service: ScriptedService, *leases: Lease) -> dict[int, float]:
    reports = [one for body in about(service, "reports", *leases) for one in body["reports"]]
    return {report["step"]: report["value"] for report in reports}


def best_of(service: ScriptedService, lease: Lease) -> Checkpoint:
    return Checkpoint.model_validate(kept(service, lease))


def predict(*argv: str) -> str:
    """Run the verb in a process of its own and return what it printed."""
    whole = [sys.executable, "-P", "-m", "worker", "predict", *argv]
    return subprocess.run(whole, check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("worker")
def test_a_completed_trial_is_worth_its_last_epoch(service: ScriptedService) -> None:
    lease = a_lease(epochs=EPOCHS)
    outcome = settle(service, lease)
    assert outcome["kind"] == "completed"
    assert list(curve(service, lease)) == list(range(EPOCHS))
    # The validation split has 359 rows, so that one validation is enough.
    assert outcome["value"] == curve(service, lease)[EPOCHS - 1] > 0.8
    assert best_of(service, lease).step == EPOCHS - 1
    hits = unpack(ValidationOutputs.model_validate(outcome["validation_outputs"]))
    assert hits.shape == (1, 359, 1)
    assert hits.mean() == pytest.approx(outcome["value"])
    (record,) = about(service, "record", lease)
    assert record["pictures"] == {"train": 1079, "validation": 359, "test": 359}
    assert (record["labels_used"], record["classes"]) == (1079, 10)
    assert sum(count["test"] for count in record["class_counts"]) == 359
    assert record["weights"] is None
    assert record["environment"]["device"] == "cpu"


@pytest.mark.usefixtures("worker")
def test_a_trial_with_few_labels_records_how_many_it_used(service: ScriptedService) -> None:
    lease = a_lease(
        recipe={"epochs": 1, "shots": 3}, model={"backbone": "glyphnet", "weights": "default"}
    )
    assert settle(service, lease)["kind"] == "completed"
    (record,) = about(service, "record", lease)
    assert record["labels_used"] == 30
    assert record["pictures"]["train"] == 1079
    assert record["weights"]["matched"]["count"] > 10


@pytest.mark.usefixtures("worker")
def test_the_winners_model_is_measured_once_and_predicts(
    service: ScriptedService, tmp_path: Path
) -> None:
    trial = a_lease(epochs=EPOCHS)
    validation = settle(service, trial)["value"]
    final = a_lease(kind="final", epochs=EPOCHS, resume=best_of(service, trial))
    outcome = settle(service, final)
    assert outcome["value"] == outcome["metrics"]["test_accuracy"] > 0.8
    assert outcome["metrics"]["test_accuracy_before"] < outcome["value"]
    assert outcome["metrics"]["validation_accuracy"] == validation
    (told,) = about(service, "record", final)
    assert told["pictures"]["test"] == 359
    path = tmp_path / "model.safetensors"
    path.write_bytes(service.artifacts[outcome["model_sha256"]])
    assert load_exported(path).card.scores.test_accuracy == outcome["value"]
    told = json.loads(predict("--model", str(path), "--json", "--builtin", "digits"))
    assert (told["class"], told["label"]) == ("0", "0")
    assert 0.5 < told["probability"] == told["probabilities"]["0"] <= 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--model", "m", "--builtin", "digits", "--index", "5000"), "0 to 1796"),
        (("--model", "/nowhere/m", "picture.png"), "/nowhere/m"),
    ],
)
def test_a_prediction_that_cannot_be_made_is_refused_in_one_line(
    argv: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *argv]) == FAILED
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


@pytest.mark.usefixtures("worker")
def test_a_training_that_diverges_is_not_tried_again(
    service: ScriptedService, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    # Finite themselves, and what they make of a picture is not.
    weights = {
        name: torch.full_like(tensor, 1e30) if tensor.is_floating_point() else tensor
        for name, tensor in GlyphNet(10).state_dict().items()
    }
    safetensors_files.write(path, weights, {})
    outcome = settle(
        service, a_lease(model={"backbone": "glyphnet", "weights": str(path)}, epochs=1)
    )
    assert (outcome["error"], outcome["retryable"]) == ("diverged", False)


@pytest.mark.usefixtures("worker")
def test_data_that_this_worker_has_not_may_be_elsewhere(
    service: ScriptedService, tmp_path: Path
) -> None:
    folder = {"kind": "image_folder", "path": str(tmp_path / "nowhere")}
    outcome = settle(service, a_lease(task={"kind": "classification", "dataset": folder}))
    assert (outcome["error"], outcome["retryable"]) == ("data_missing", True)
    assert str(tmp_path / "nowhere") in outcome["message"]


@pytest.mark.usefixtures("worker")
def test_a_weights_file_that_holds_no_weights_is_the_users_to_mend(
    service: ScriptedService, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_text("no weights")
    model = {"backbone": "glyphnet", "weights": str(path)}
    outcome = settle(service, a_lease(model=model))
    assert (outcome["error"], outcome["retryable"]) == ("user_error", False)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "content", [b"", b"no state at all"], ids=["another's bytes", "no training state"]
)
def test_a_checkpoint_that_cannot_be_loaded_means_a_fresh_start(
    service: ScriptedService, content: bytes
) -> None:
    sha256 = hashlib.sha256(b"no state at all").hexdigest()
    service.artifacts[sha256] = content
    lease = a_lease(epochs=1, resume=Checkpoint(step=2, sha256=sha256, bytes=15))
    outcome = settle(service, lease)
    assert outcome["kind"] == "completed"
    assert list(curve(service, lease)) == [0]


@pytest.mark.usefixtures("worker")
def test_a_winner_whose_checkpoint_is_lost_is_trained_again(service: ScriptedService) -> None:
    trial = a_lease(epochs=2)
    validation = settle(service, trial)["value"]
    lost = Checkpoint(step=1, sha256="0" * 64, bytes=15)
    outcome = settle(service, a_lease(kind="final", epochs=2, resume=lost))
    assert outcome["metrics"]["validation_accuracy"] == validation
    assert outcome["model_sha256"] in service.artifacts


def test_a_final_evaluation_that_may_not_open_the_test_split_is_put_aside(
    own_service: ScriptedService, cache: Path
) -> None:
    own_service.refusals["record"] = problems.Unavailable()
    lost = Checkpoint(step=0, sha256="0" * 64, bytes=15)
    own_service.give(a_lease(kind="final", epochs=1, resume=lost))
    with a_worker(own_service.address, cache, runner=RUNNER) as worker:
        own_service.wait_for(lambda: bool(own_service.refused), 120)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert [call.body for call in own_service.of("release")] == [{"reason": "drain"}]


@pytest.mark.usefixtures("worker")
def test_a_trial_put_aside_ends_with_the_weights_of_the_uninterrupted_one(
    service: ScriptedService, own_service: ScriptedService, cache: Path
) -> None:
    whole, first = a_lease(epochs=EPOCHS), a_lease(epochs=EPOCHS, trial_number=1)
    own_service.give(first)
    with a_worker(own_service.address, cache, runner=RUNNER) as one:
        own_service.wait_for(lambda: 1 in curve(own_service, first), 120)
        # A scheduler's notice reaches every process of a job.
        status = Path(f"/proc/{one.runner_pid()}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        assert ignored & 1 << (signal.SIGUSR1 - 1), "the training process outlives it"
        for process in (one.runner_pid(), one.pid):
            os.kill(process, signal.SIGUSR1)
        assert one.wait() == 0
    assert about(own_service, "release", first) == [{"reason": "drain"}]
    recorded = about(own_service, "checkpoint", first)[-1]["checkpoint"]
    service.artifacts |= own_service.artifacts
    resume = Checkpoint.model_validate(recorded)
    second = a_lease(epochs=EPOCHS, trial_number=1, fence=2, resume=resume)
    settle(service, whole)
    settle(service, second)
    assert list(curve(service, second)) == list(range(resume.step + 1, EPOCHS))
    assert curve(own_service, first) | curve(service, second) == curve(service, whole)
    assert weights_of(service, second) == weights_of(service, whole)


OWN = """
from torch import nn

def net(classes: int) -> nn.Module:
    blocks = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, classes)]
    return nn.Sequential(*blocks)

BACKBONES = {"net": {"build": net, "image_size": 8}}
"""


def test_a_person_trains_and_uses_their_own_backbone(
    own_service: ScriptedService, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / "worker.py"
    mine.parent.mkdir()
    mine.write_text(OWN)
    model = {"backbone": "user:net", "weights": "none"}
    trial = a_lease(model=model, epochs=2)
    with a_worker(own_service.address, tmp_path, "--backbones", str(mine), runner=RUNNER):
        assert settle(own_service, trial)["kind"] == "completed"
        final = a_lease(kind="final", model=model, epochs=2, resume=best_of(own_service, trial))
        sha256 = settle(own_service, final)["model_sha256"]
        unknown = settle(own_service, a_lease(model=model | {"backbone": "user:nett"}))
    assert (unknown["error"], unknown["retryable"]) == ("data_missing", True)
    assert "registered: net" in unknown["message"]
    path = tmp_path / "model.safetensors"
    path.write_bytes(own_service.artifacts[sha256])
    told = predict("--model", str(path), "--backbones", str(mine), "--builtin", "digits")
    assert "probability" in told


def test_a_worker_whose_backbones_cannot_be_read_says_so_and_leaves(
    own_service: ScriptedService, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("import nowhere_at_all\n")
    env = {"TRIMTAB_BACKBONES": str(mine)}
    with a_worker(own_service.address, tmp_path, runner=RUNNER, env=env) as worker:
        assert worker.wait() == FAILED
    complaint = capfd.readouterr().err
    assert f"{mine}: no backbones can be read from it (line 1: ModuleNotFoundError" in complaint


def test_a_disk_that_takes_no_checkpoint_does_not_cost_the_trial(
    own_service: ScriptedService, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_quarter_mebibyte = ("sh", "-c", 'ulimit -f 512 && exec "$@"', "sh")
    lease = a_lease(epochs=EPOCHS)
    with a_worker(own_service.address, tmp_path, runner=RUNNER, prefix=a_quarter_mebibyte):
        outcome = settle(own_service, lease)
    assert outcome["kind"] == "completed"
    assert outcome["value"] == curve(own_service, lease)[EPOCHS - 1]
    assert not own_service.of("upload")
    assert capfd.readouterr().err.count("training goes on without checkpoints") == 1
