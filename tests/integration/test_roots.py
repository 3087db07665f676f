"""A real training process that may read one folder, asked for files outside of it in every way that a study has."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support.leases import a_lease
from tests.support.runners import Trials
from trimtab.contract.leases import Failed
from worker import checkpoints
from worker.pipe_messages import Ended, RunTrial

SECRET = "/etc/passwd"


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Generator[Trials]:
    folder = tmp_path_factory.mktemp("readable")
    trials = Trials(tmp_path_factory.mktemp("cache"), "cpu", f"--root={folder}")
    yield trials
    trials.runner.close()


def _task(**dataset: Any) -> dict[str, Any]:
    return {"kind": "classification", "dataset": dataset}


@pytest.mark.parametrize("kind", ["trial", "final"])
@pytest.mark.parametrize(
    "asked",
    [
        {"task": _task(kind="image_folder", path="/etc")},
        {"task": _task(kind="csv", path=SECRET, targets=["a"])},
        {"task": _task(kind="torchvision", name="MNIST", root="/etc")},
        {"model": {"backbone": "glyphnet", "weights": "/etc/passwd.pt"}},
        {"teacher": {"kind": "file", "path": "/etc/passwd.safetensors"}},
    ],
    ids=str,
)
def test_nothing_outside_the_roots_is_read(
    trials: Trials, tmp_path: Path, asked: dict[str, Any], kind: str
) -> None:
    lease = a_lease(kind=kind, **asked)
    teacher = Path(asked["teacher"]["path"]) if "teacher" in asked else None
    folder = checkpoints.folder_of(tmp_path, lease)
    trials.runner.send(RunTrial(lease=lease, folder=folder, teacher=teacher))
    ended = next(news for news in trials.hear(lambda _: "continue") if isinstance(news, Ended))
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.error == "data_missing"
    assert "this worker does not read there" in (ended.outcome.message or "")
