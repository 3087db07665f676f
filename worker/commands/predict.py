"""`trimtab predict`: what an exported model makes of pictures."""

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from PIL.Image import Image

from worker.data.errors import DataError
from worker.data.images.digits import Digits
from worker.training.errors import TrainingError
from worker.training.model.export import Chance, Number, Prediction, Predictions, load_exported
from worker.training.model.user_backbones import OwnBackbones

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
    return [
        Picture(f"digits {index}", digits.read(sample), digits.classes[cast(int, sample.label)])
    ]


def predict(
    model: Path,
    pictures: Sequence[Picture],
    *,
    as_json: bool,
    backbones: Sequence[Path] = (),
) -> Generator[str]:
    """Say what a model makes of pictures; yields a line for each. `backbones` are files of own ones, if it is one of them.

    Raises:
        TrainingError: the model cannot be used.
        DataError: some pictures cannot be read.
    """
    predictor = load_exported(model, own=OwnBackbones.gather(backbones))
    predictions = predictor.predict([picture.content for picture in pictures])
    for picture, prediction in zip(pictures, predictions, strict=True):
        if as_json:
            yield json.dumps(_told(picture, prediction))
        else:
            yield _in_words(picture, prediction)


def _told(picture: Picture, predicted: Predictions) -> dict[str, object]:
    label = {} if picture.label is None else {"label": picture.label}
    if isinstance(predicted, Prediction):
        of_class = _of_target(predicted)
        return {"image": picture.name, **of_class, **label}
    return {
        "image": picture.name,
        "targets": {name: _of_target(one) for name, one in predicted.items()},
        **label,
    }


def _of_target(predicted: Prediction | Number | Chance) -> dict[str, object]:
    if not isinstance(predicted, Prediction):
        return asdict(predicted)
    return {
        "class": predicted.class_name,
        "probability": predicted.probabilities[predicted.class_name],
        "probabilities": dict(predicted.probabilities),
    }


def _in_words(picture: Picture, predicted: Predictions) -> str:
    label = "" if picture.label is None else f" (it is {picture.label})"
    if isinstance(predicted, Prediction):
        return f"{picture.name}: {_words_of(predicted)}{label}"
    each = (f"{name} {_words_of(one)}" for name, one in predicted.items())
    return f"{picture.name}: {'; '.join(each)}{label}"


def _words_of(predicted: Prediction | Number | Chance) -> str:
    match predicted:
        case Prediction(class_name=name, probabilities=probabilities):
            return f"{name}, probability {probabilities[name]:.3f}"
        case Number(value=value):
            return f"{value:.6g}"
        case Chance(probability=probability):
            return f"with probability {probability:.3f}"
