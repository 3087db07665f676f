"""`trimtab predict`: predicts pictures with an exported model."""

import glob
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from PIL.Image import Image

from worker.data.errors import DataError
from worker.data.images import picture_files, tree
from worker.data.images.digits import Digits
from worker.training.errors import TrainingError
from worker.training.model.export import load_exported
from worker.training.model.predictor import (
    BATCH_SIZE,
    Chance,
    Number,
    Prediction,
    Predictions,
    Unreadable,
)
from worker.training.model.user_backbones import OwnBackbones

MISTAKES = (TrainingError, DataError, IndexError, OSError)
"""The errors that a person can mend; each message says what is wrong."""


@dataclass(frozen=True)
class Picture:
    """A picture to predict; only a built-in one has a label."""

    name: str
    content: Path | Image
    label: str | None = None


class NothingThere(DataError):
    """A folder without pictures, or a pattern that no file matches."""


class SomeUnreadable(DataError):
    """Some of the files could not be predicted; each has been told when it was met."""


_Told = Callable[[str], object]


def files(paths: Sequence[Path], told: _Told = lambda _: None) -> list[Picture]:
    """Return the pictures of these files, of all below these folders, and of all that match these patterns.

    They are opened when they are predicted. Of a folder those files count that would count in a data set's (`tree`,
    `picture_files.is_one`); whoever names a file, or a pattern that it matches, says that it is a picture.

    Args:
        paths: The files, folders and patterns.
        told: A function that is called with a sentence about what is left out of a folder.

    Raises:
        NothingThere: A folder holds no picture, or a pattern matches no file.
        LinkLoop: A link in a folder leads back to where it lies.
    """
    return [Picture(str(path), path) for given in paths for path in _files_of(given, told)]


def _files_of(given: Path, told: _Told) -> list[Path]:
    if given.is_dir():
        return _below(given, told)
    if given.exists() or not glob.has_magic(str(given)):
        return [given]
    found = sorted(Path(name) for name in glob.glob(str(given), recursive=True))  # noqa: PTH207 - of a whole path
    if not found:
        raise NothingThere(f"{given}: no file matches this pattern")
    return [path for one in found for path in (_below(one, told) if one.is_dir() else [one])]


def _below(folder: Path, told: _Told) -> list[Path]:
    below, beside = tree.walk(folder)
    listed = sorted(folder / path for path in below.all_files())
    found = [path for path in listed if picture_files.is_one(path)]
    others = {"not a picture": len(listed) - len(found)}
    others |= {reason: len(paths) for reason, paths in beside.items()}
    if left_out := ", ".join(f"{count} {reason}" for reason, count in others.items() if count):
        told(f"{folder}: left out: {left_out}")
    if not found:
        raise NothingThere(f"{folder}: there is no picture in this folder")
    return found


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
    skip_bad: bool = False,
    told: _Told = lambda _: None,
) -> Generator[str]:
    """Yield a line with the model's prediction for each picture that can be read, a batch at a time.

    Args:
        model: The exported model's file.
        pictures: The pictures to predict.
        as_json: Whether each line is a JSON object rather than plain text.
        backbones: Python files of own backbones, one of which the model may be built on.
        skip_bad: Whether it is no failure that a picture cannot be read, as long as another can.
        told: A function that is called with a sentence about each picture that cannot be read.

    Raises:
        TrainingError: The model cannot be used.
        SomeUnreadable: Some pictures cannot be read; raised when all others have been predicted.
    """
    predictor = load_exported(model, own=OwnBackbones.gather(backbones))
    bad = 0
    # A batch at a time: a folder may hold more pictures than fit in memory.
    for start in range(0, len(pictures), BATCH_SIZE):
        batch = pictures[start : start + BATCH_SIZE]
        found = predictor.predict_readable([picture.content for picture in batch])
        for picture, prediction in zip(batch, found, strict=True):
            if isinstance(prediction, Unreadable):
                bad += 1
                told(f"{picture.name}: {prediction.reason}")
            elif as_json:
                yield json.dumps(_as_object(picture, prediction))
            else:
                yield _as_text(picture, prediction)
    _judge(bad, len(pictures), skip_bad=skip_bad)


def _judge(bad: int, of: int, *, skip_bad: bool) -> None:
    if bad == of > 0:
        raise SomeUnreadable(f"none of the {of} files can be read")
    if bad and not skip_bad:
        raise SomeUnreadable(
            f"{bad} of {of} files cannot be read, the others are predicted; to take this for no failure, give --skip-bad"
        )


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
