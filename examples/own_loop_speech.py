"""Speech: spoken words in `DIGIT/SPEAKER_TAKE.wav`, told apart by a small network on their spectrograms.

`python examples/own_loop_speech.py FOLDER` while `trimtab up` runs. Whole speakers are held out, so that the accuracy is that
on voices that were never heard.
"""

import sys
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trimtab import Client
from trimtab.client.loop_trial import LoopTrial
from trimtab.contract.problems import StudyExists
from trimtab.contract.studies import StudyDocument

STUDY: dict[str, Any] = {
    "name": "own-speech",
    "task": {"kind": "external", "objective": "accuracy", "direction": "maximize"},
    "space": {
        "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "channels": {"kind": "choices", "choices": [8, 16, 32]},
        "n_fft": {"kind": "choices", "choices": [128, 256, 512]},
        "dropout": {"kind": "float", "low": 0.0, "high": 0.5},
    },
    "fixed": {"epochs": 20},
    "budget": {"trials": 20},
}
LENGTH = 8000
"""Samples of a recording: longer ones are cut, shorter ones padded with silence."""


def read(path: Path) -> torch.Tensor:
    """Return a recording of 16-bit samples as numbers (LENGTH,) from -1 to 1."""
    with wave.open(str(path)) as file:
        raw = bytearray(file.readframes(LENGTH))
        samples = torch.frombuffer(raw, dtype=torch.int16)[:: file.getnchannels()] / 32768
    return nn.functional.pad(samples, (0, LENGTH - len(samples)))


def load(folder: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return recordings (N, LENGTH), their digits (N,), and whether their speaker is held out (N,)."""
    files = sorted(folder.glob("*/*.wav"))
    speakers = sorted({file.stem.partition("_")[0] for file in files})
    held_out = set(speakers[::4])
    digits = sorted({file.parent.name for file in files})
    return (
        torch.stack([read(file) for file in files]),
        torch.tensor([digits.index(file.parent.name) for file in files]),
        torch.tensor([file.stem.partition("_")[0] in held_out for file in files]),
    )


def spectrograms(recordings: torch.Tensor, n_fft: int) -> torch.Tensor:
    """Return log spectrograms (N, 1, frequencies, times)."""
    found = torch.stft(recordings, n_fft, window=torch.hann_window(n_fft), return_complex=True)
    return (found.abs() + 1e-3).log()[:, None]


def network(channels: int, classes: int, dropout: float) -> nn.Module:
    """Return two convolutions and a linear layer."""
    return nn.Sequential(
        nn.BatchNorm2d(1),
        *(nn.Conv2d(1, channels, 5, stride=2), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(channels, 2 * channels, 3), nn.BatchNorm2d(2 * channels), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(dropout)),
        nn.Linear(32 * channels, classes),
    )  # fmt: skip


def train(trial: LoopTrial, data: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Train one configuration."""
    torch.manual_seed(trial.seed)
    given = trial.hyperparameters
    recordings, digits, held_out = data
    inputs = spectrograms(recordings, given["n_fft"])
    model = network(given["channels"], int(digits.max()) + 1, given["dropout"])
    optimizer = torch.optim.AdamW(model.parameters(), given["learning_rate"])
    x, y = inputs[~held_out], digits[~held_out]
    for epoch in range(given["epochs"]):
        model.train()
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(inputs[held_out]).argmax(1) == digits[held_out]
        if not trial.report(epoch, accuracy=right.float().mean()):
            break


def main(folder: str, trials: int = 20, epochs: int = 20) -> None:
    """Create the study, unless another loop has, and train its trials until it is done."""
    data = load(Path(folder))
    study = STUDY | {"budget": {"trials": trials}, "fixed": {"epochs": epochs}}
    with Client() as client:  # TRIMTAB_SERVER and TRIMTAB_TOKEN, else http://127.0.0.1:8000
        with suppress(StudyExists):
            client.create_study(StudyDocument.model_validate(study))
        for trial in client.loop(STUDY["name"]):
            with trial:
                train(trial, data)
        print(client.best(STUDY["name"]).trial)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
