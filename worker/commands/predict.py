"""`trimtab predict`: predicts pictures with an exported model."""

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
"""The errors that a person can mend; each message says what is wrong."""


@dataclass(frozen=True)
class Picture:
    """A picture to predict; only a built-in one has a label."""

    name: str
    content: Path | Image
    label: str | None = None


def files(paths: Sequence[Path]) -> list[Picture]:
    """Return the pictures of these files; they are opened when they are predicted."""
    return [Picture(str(path), path) for path in paths]


def digit(index: int) -> list[Picture]:
    """Return one of scikit-learn's digits.

    Raises:
        IndexError: The data set does not have a picture of this number.
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
    """Yield a line with the model's prediction for each picture.

    Args:
        model: The exported model's file.
        pictures: The pictures to predict.
        as_json: Whether each line is a JSON object rather than plain text.
        backbones: Python files of own backbones, one of which the model may be built on.

    Raises:
        TrainingError: The model cannot be used.
        DataError: Some pictures cannot be read.
    """
    predictor = load_exported(model, own=OwnBackbones.gather(backbones))
    predictions = predictor.predict([picture.content for picture in pictures])
    for picture, prediction in zip(pictures, predictions, strict=True):
        if as_json:
            yield json.dumps(_as_object(picture, prediction))
        else:
            yield _as_text(picture, prediction)


def _as_object(picture: Picture, predicted: Predictions) -> dict[str, object]:
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


def _as_text(picture: Picture, predicted: Predictions) -> str:
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
            # Six digits of a large number would hide what tells it from its neighbours, as seconds since 1970.
            return f"{value:.2f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
        case Chance(probability=probability):
            return f"with probability {probability:.3f}"
