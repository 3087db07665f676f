"""What a person does with models by hand: predict with an exported one, pretrain our own backbone."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from worker.data.digits import Digits
from worker.data.errors import DataError
from worker.pretrain import pretrain_glyphs
from worker.training.errors import TrainingError
from worker.training.export import Prediction, load_exported
from worker.training.fit import EpochResult
from worker.training.own_backbones import OwnBackbones

MISTAKES = (TrainingError, DataError, IndexError, OSError)
"""What a person can mend; each says what is wrong."""


@dataclass(frozen=True)
class Picture:
    """Something to classify; the label is known of a built-in one."""

    name: str
    content: Path | Image
    label: str | None = None


def files(paths: Sequence[Path]) -> list[Picture]:
    """Take pictures from files."""
    return [Picture(str(path), path) for path in paths]


def digit(index: int) -> list[Picture]:
    """Take one of scikit-learn's digits.

    Raises:
        IndexError: there is none of that number.
    """
    digits = Digits()
    if not 0 <= index < len(digits.samples):
        raise IndexError(f"--index: digits has the pictures 0 to {len(digits.samples) - 1}")
    sample = digits.samples[index]
    return [Picture(f"digits {index}", digits.read(sample), digits.classes[sample.label])]


def predict(
    model: Path,
    pictures: Sequence[Picture],
    *,
    as_json: bool,
    backbones: Sequence[Path] = (),
) -> Generator[str]:
    """Classify pictures; yields a line for each. `backbones` are files of own ones, if the model's is one of them.

    Raises:
        TrainingError: the model cannot be used.
        DataError: some pictures cannot be read.
    """
    predictor = load_exported(model, own=OwnBackbones.gather(backbones))
    predictions = predictor.predict([picture.content for picture in pictures])
    for picture, prediction in zip(pictures, predictions, strict=True):
        told = _told(picture, prediction)
        yield json.dumps(told) if as_json else _in_words(told)


def pretrain(out: Path, *, epochs: int, seed: int) -> None:
    """Draw glyphs and train glyphnet on them; prints every epoch, and at last the file.

    Raises:
        OSError: it cannot be written.
    """

    def progress(epoch: EpochResult) -> None:
        accuracy = f"{epoch.value:.4f}"
        print(f"epoch {epoch.epoch}: validation accuracy {accuracy}", flush=True)  # noqa: T201

    print(pretrain_glyphs(out, epochs=epochs, seed=seed, progress=progress))  # noqa: T201


def _told(picture: Picture, prediction: Prediction) -> dict[str, object]:
    label = {} if picture.label is None else {"label": picture.label}
    return {
        "image": picture.name,
        "class": prediction.class_name,
        "probability": prediction.probabilities[prediction.class_name],
        **label,
        "probabilities": dict(prediction.probabilities),
    }


def _in_words(told: Mapping[str, object]) -> str:
    label = f" (it is {told['label']})" if "label" in told else ""
    return f"{told['image']}: {told['class']}, probability {told['probability']:.3f}{label}"
