"""`trimtab predict`: predicts pictures or texts with an exported model."""

import glob
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from PIL.Image import Image

from worker.data.errors import DataError
from worker.data.images import picture_files, tree
from worker.data.images.digits import Digits
from worker.data.text.tokenizer import Content
from worker.training.errors import TrainingError
from worker.training.model.export import load_exported
from worker.training.model.predictor import (
    BATCH_SIZE,
    Chance,
    Number,
    Prediction,
    Predictions,
    Predictor,
    Unreadable,
)
from worker.training.model.user_backbones import OwnBackbones

MISTAKES = (TrainingError, DataError, IndexError, OSError)
"""The errors that a person can mend; each message says what is wrong."""


@dataclass(frozen=True)
class Sample:
    """A picture or a text to predict; only a built-in picture has a label.

    Attributes:
        name: The word for it in messages and in plain text.
        content: The picture or the text; or why it cannot be read.
        label: Its class, where that is known.
        told: Its name in a JSON object; None tells `image` and the name.
    """

    name: str
    content: Path | Image | Content | Unreadable
    label: str | None = None
    told: Mapping[str, object] | None = None


class NothingThere(DataError):
    """A folder without pictures, a pattern that no file matches, or a table without rows."""


class SomeUnreadable(DataError):
    """Some of the files could not be predicted; each has been told when it was met."""


_Told = Callable[[str], object]


def files(paths: Sequence[Path], told: _Told = lambda _: None) -> list[Sample]:
    """Return the pictures of these files, of all below these folders, and of all that match these patterns.

    They are opened when they are predicted. Of a folder those files count that would count in a data set's (`tree`,
    `picture_files.is_one`); whoever names a file, or a pattern that it matches, says that it is a sample.

    Args:
        paths: The files, folders and patterns.
        told: A function that is called with a sentence about what is left out of a folder.

    Raises:
        NothingThere: A folder holds no picture, or a pattern matches no file.
        LinkLoop: A link in a folder leads back to where it lies.
    """
    return [Sample(str(path), path) for given in paths for path in _files_of(given, told)]


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


def digit(index: int) -> list[Sample]:
    """Return one of scikit-learn's digits.

    Raises:
        IndexError: The data set does not have a picture of this number.
    """
    digits = Digits()
    if not 0 <= index < len(digits.samples):
        raise IndexError(f"--index: digits has the pictures 0 to {len(digits.samples) - 1}")
    sample = digits.samples[index]
    return [
        Sample(f"digits {index}", digits.read(sample), digits.classes[cast(int, sample.label)])
    ]


def predict(
    model: Path,
    samples: Iterable[Sample],
    *,
    as_json: bool,
    backbones: Sequence[Path] = (),
    skip_bad: bool = False,
    told: _Told = lambda _: None,
) -> Generator[str]:
    """Yield a line with the model's prediction for each sample that can be read, a batch at a time.

    Args:
        model: The exported model's file.
        samples: The pictures or texts to predict.
        as_json: Whether each line is a JSON object rather than plain text.
        backbones: Python files of own backbones, one of which the model may be built on.
        skip_bad: Whether it is no failure that a sample cannot be read, as long as another can.
        told: A function that is called with a sentence about each sample that cannot be read.

    Raises:
        TrainingError: The model cannot be used.
        SomeUnreadable: Some samples cannot be read; raised when all others have been predicted.
    """
    predictor = load_exported(model, own=OwnBackbones.gather(backbones))
    count = bad = 0
    noun = "files"
    # A batch at a time: there may be more of them than fit in memory.
    for batch in _batches(samples):
        count += len(batch)
        noun = "files" if batch[0].told is None else "texts"
        for sample, prediction in zip(batch, _predicted(predictor, batch), strict=True):
            if isinstance(prediction, Unreadable):
                bad += 1
                told(f"{sample.name}: {prediction.reason}")
            elif as_json:
                yield json.dumps(_as_object(sample, prediction))
            else:
                yield _as_text(sample, prediction)
    _judge(bad, count, noun, skip_bad=skip_bad)


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    rest = iter(samples)
    while batch := list(islice(rest, BATCH_SIZE)):
        yield batch


def _predicted(
    predictor: Predictor, batch: Sequence[Sample]
) -> Iterator[Predictions | Unreadable]:
    contents = [one.content for one in batch if not isinstance(one.content, Unreadable)]
    found = iter(predictor.predict_readable(contents))
    for one in batch:
        yield one.content if isinstance(one.content, Unreadable) else next(found)


def _judge(bad: int, of: int, noun: str, *, skip_bad: bool) -> None:
    if bad == of > 0:
        raise SomeUnreadable(f"none of the {of} {noun} can be read")
    if bad and not skip_bad:
        raise SomeUnreadable(
            f"{bad} of {of} {noun} cannot be read, the others are predicted; to take this for no failure, give --skip-bad"
        )


def _as_object(sample: Sample, predicted: Predictions) -> dict[str, object]:
    label = {} if sample.label is None else {"label": sample.label}
    name = {"image": sample.name} if sample.told is None else sample.told
    if isinstance(predicted, Prediction):
        of_class = _of_target(predicted)
        return {**name, **of_class, **label}
    return {
        **name,
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


def _as_text(sample: Sample, predicted: Predictions) -> str:
    label = "" if sample.label is None else f" (it is {sample.label})"
    if isinstance(predicted, Prediction):
        return f"{sample.name}: {_words_of(predicted)}{label}"
    each = (f"{name} {_words_of(one)}" for name, one in predicted.items())
    return f"{sample.name}: {'; '.join(each)}{label}"


def _words_of(predicted: Prediction | Number | Chance) -> str:
    match predicted:
        case Prediction(class_name=name, probabilities=probabilities):
            return f"{name}, probability {probabilities[name]:.3f}"
        case Number(value=value):
            # Six digits of a large number would hide what tells it from its neighbours, as seconds since 1970.
            return f"{value:.2f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"
        case Chance(probability=probability):
            return f"with probability {probability:.3f}"
