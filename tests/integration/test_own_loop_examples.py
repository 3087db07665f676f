"""The examples of training loops of one's own run, each at a small size."""

import importlib.util
import math
import struct
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import Running
from trimtab import Client

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *given: Any, **sizes: Any) -> None:
    """Run an example of this name."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(*given, **sizes)


@pytest.fixture(autouse=True)
def at_the_service(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples find the service as a person's would."""
    monkeypatch.setenv("TRIMTAB_SERVER", service.url)


def tones(folder: Path) -> None:
    """Write recordings of four speakers, who say two words: a low tone and a high one."""
    for digit, hertz in ((0, 300), (1, 900)):
        for speaker in range(4):
            for take in range(3):
                path = folder / str(digit) / f"speaker{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_tone(path, hertz + 20 * speaker + take)


def write_tone(path: Path, hertz: float, rate: int = 8000) -> None:
    """Write a quarter of a second of a tone."""
    samples = (int(9000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(rate // 4))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


def test_scikit_learn(client: Client) -> None:
    run("own_loop_sklearn", trials=2, epochs=2)
    assert client.best("own-sklearn").trial.value > 0.5
    assert client.study("own-sklearn").progress.epochs == 4


def test_plain_pytorch_with_checkpoints(client: Client, tmp_path: Path) -> None:
    run("own_loop_torch", trials=3, epochs=3, path=str(tmp_path / "state.pt"))
    study = client.study("own-torch")
    assert study.state == "done"
    # Hyperband pauses some, and takes one up again.
    reported = {trial.number: len(trial.curve) for trial in client.trials("own-torch").trials}
    assert max(reported.values()) == 3
    assert min(reported.values()) == 1
    assert client.best("own-torch").trial.value < 1


def test_speech(client: Client, tmp_path: Path) -> None:
    tones(tmp_path)
    run("own_loop_speech", str(tmp_path), trials=1, epochs=3)
    seen = client.trial("own-speech", 0)
    assert seen.state == "completed"
    # Six recordings are of the speaker who is held out.
    assert all((6 * float(point.value or 0)) % 1 < 1e-5 for point in seen.curve)


def test_reinforcement_learning(client: Client) -> None:
    run("own_loop_ppo", trials=1, epochs=2, steps=128)
    seen = client.trial("own-ppo", 0)
    assert seen.state == "completed"
    assert 0 < float(seen.value or 0) <= 128
    assert 0 < seen.metrics[1]["entropy"] < math.log(2) + 1e-6
