"""A study of one of timm's models through every room: it is trained, handed over, and predicts from its file."""

import subprocess
from pathlib import Path

from tests.end_to_end.test_finish import PREDICT, REAL
from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from trimtab.contract.studies import StudyDocument
from trimtab.contract.tasks import Model
from worker.training.model import backbones
from worker.training.model.export import load_exported
from worker.training.safetensors_files import write

NAME = "timm:test_resnet"


def _document(name: str, backbone: str, weights: str) -> StudyDocument:
    return a_study_document(
        name=name,
        model={"backbone": backbone, "weights": weights},
        space={"learning_rate": {"kind": "float", "low": 2e-3, "high": 5e-3}},
        fixed={"epochs": 1, "batch_size": 32, "image_size": 32, "frozen_stages": 5, "shots": 4},
        budget={"trials": 2},
    )


def test_a_model_of_timm_is_trained_handed_over_and_predicts(
    client: Client, tmp_path: Path
) -> None:
    built = backbones.build(Model(backbone=NAME, weights="none"), classes=("a",), seed=0)
    weights = tmp_path / "weights.safetensors"
    write(weights, built.network.state_dict(), {})
    client.create_study(_document("digits", NAME, str(weights)))
    with a_worker(server_of(client), tmp_path / "worker", "--device", "cpu", runner=REAL):
        for event in client.events("digits"):
            assert event.kind != "study_problem"
    study = client.study("digits")
    assert (study.state, study.problem, study.trials_created) == ("done", None, 2)
    card = load_exported(client.download_model("digits", tmp_path / "model")).card
    assert (card.backbone, card.interpolation, card.crop) == (NAME, "bilinear", 0.95)
    answer = subprocess.run(
        [
            *(*PREDICT, "--model", str(tmp_path / "model"), "--json"),
            *("--builtin", "digits", "--index", "7"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"class": ' in answer.stdout
