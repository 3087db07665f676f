"""What `predict` prints of a picture, for every kind of task, and which files it takes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.commands import predict
from worker.training.model.predictor import (
    BATCH_SIZE,
    Chance,
    Number,
    Prediction,
    Predictions,
    Unreadable,
)

CAT = Prediction("cat", {"ant": 0.1, "cat": 0.9})
SEVERAL: Predictions = {"pet": CAT, "age": Number(12.3456789), "tame": Chance(0.75)}


class Predictor:
    def __init__(self, predicted: Predictions) -> None:
        self._predicted = predicted

    def predict_readable(self, pictures: Sequence[object]) -> list[Predictions | Unreadable]:
        return [
            Unreadable("is harmed") if "bad" in str(picture) else self._predicted
            for picture in pictures
        ]


def _played(monkeypatch: pytest.MonkeyPatch, predicted: Predictions) -> None:
    def load(_: Path, *, own: object) -> Predictor:
        assert own is not None
        return Predictor(predicted)

    monkeypatch.setattr(predict, "load_exported", load)


def _said(monkeypatch: pytest.MonkeyPatch, predicted: Predictions, *, as_json: bool) -> str:
    _played(monkeypatch, predicted)
    (line,) = predict.predict(Path("m"), predict.files([Path("a.png")]), as_json=as_json)
    return line


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        (CAT, "a.png: cat, probability 0.900"),
        ({"age": Number(12.3456789)}, "a.png: age 12.3457"),
        ({"time": Number(1_700_000_020.519)}, "a.png: time 1700000020.52"),
        ({"mass": Number(-1.98847e30)}, "a.png: mass -1.98847e+30"),
        (
            SEVERAL,
            "a.png: pet cat, probability 0.900; age 12.3457; tame with probability 0.750",
        ),
    ],
)
def test_a_prediction_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, predicted: Predictions, words: str
) -> None:
    assert _said(monkeypatch, predicted, as_json=False) == words


def test_a_prediction_of_several_targets_is_told_by_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pet = {"class": "cat", "probability": 0.9, "probabilities": {"ant": 0.1, "cat": 0.9}}
    assert json.loads(_said(monkeypatch, CAT, as_json=True)) == {"image": "a.png", **pet}
    assert json.loads(_said(monkeypatch, SEVERAL, as_json=True)) == {
        "image": "a.png",
        "targets": {"pet": pet, "age": {"value": 12.3456789}, "tame": {"probability": 0.75}},
    }


def _names(paths: Sequence[Path]) -> list[str]:
    return [picture.name for picture in predict.files(paths)]


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_folder_stands_for_the_pictures_below_it_and_tells_what_it_leaves_out(
    tmp_path: Path,
) -> None:
    _touch(tmp_path, "b.png", "deep/a.jpg", ".hidden.png", ".ipynb_checkpoints/b.png")
    _touch(tmp_path, "notes.txt", "deep/Makefile")
    (tmp_path / "scan").write_bytes(b"P5 1 1 255 x")
    told: list[str] = []
    names = [picture.name for picture in predict.files([tmp_path], told.append)]
    assert names == [f"{tmp_path}/b.png", f"{tmp_path}/deep/a.jpg", f"{tmp_path}/scan"]
    assert told == [f"{tmp_path}: left out: 2 not a picture, 2 hidden"]


def test_a_file_that_is_named_is_taken_for_a_picture_whatever_it_is(tmp_path: Path) -> None:
    _touch(tmp_path, "notes.txt")
    for given in (tmp_path / "notes.txt", tmp_path / "*.txt"):
        assert _names([given]) == [f"{tmp_path}/notes.txt"]


def test_a_pattern_stands_for_what_matches_it_unless_a_file_has_that_name(
    tmp_path: Path,
) -> None:
    _touch(tmp_path, "1.png", "2.png", "2.txt", "[1].png", "deep/3.png")
    assert _names([tmp_path / "?.png"]) == [f"{tmp_path}/1.png", f"{tmp_path}/2.png"]
    assert _names([tmp_path / "[1].png"]) == [f"{tmp_path}/[1].png"]
    assert f"{tmp_path}/deep/3.png" in _names([tmp_path / "**" / "3.*"])


def test_a_folder_or_pattern_of_nothing_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "notes.txt")
    for nothing, why in ((tmp_path, "no picture"), (tmp_path / "*.png", "no file")):
        with pytest.raises(predict.NothingThere, match=why):
            predict.files([nothing])


@pytest.mark.parametrize(
    ("names", "skip_bad", "complaint"),
    [
        (["a", "bad", "b"], False, "1 of 3 files cannot be read"),
        (["a", "bad", "b"], True, None),
        (["bad1", "bad2"], True, "none of the 2 files can be read"),
        (["a"], False, None),
    ],
)
def test_bad_files_are_named_and_the_others_predicted(
    monkeypatch: pytest.MonkeyPatch, names: list[str], skip_bad: bool, complaint: str | None
) -> None:
    _played(monkeypatch, CAT)
    told: list[str] = []
    lines: list[str] = []
    pictures = predict.files([Path(name) for name in names])
    said = predict.predict(
        Path("m"), pictures, as_json=False, skip_bad=skip_bad, told=told.append
    )
    if complaint is None:
        lines.extend(said)
    else:
        with pytest.raises(predict.SomeUnreadable, match=complaint):
            lines.extend(said)
    good = [name for name in names if "bad" not in name]
    assert lines == [f"{name}: cat, probability 0.900" for name in good]
    assert told == [f"{name}: is harmed" for name in names if "bad" in name]


def test_a_large_folder_is_predicted_a_batch_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _played(monkeypatch, CAT)
    asked: list[int] = []
    once = Predictor.predict_readable

    def counted(self: Predictor, pictures: Sequence[object]) -> list[Predictions | Unreadable]:
        asked.append(len(pictures))
        return once(self, pictures)

    monkeypatch.setattr(Predictor, "predict_readable", counted)
    pictures = predict.files([Path(f"{number}.png") for number in range(BATCH_SIZE + 3)])
    names = [line.split(":")[0] for line in predict.predict(Path("m"), pictures, as_json=False)]
    assert names == [picture.name for picture in pictures]
    assert asked == [BATCH_SIZE, 3]
