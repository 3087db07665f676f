"""What `predict` prints of a picture, for every kind of task."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.commands import predict
from worker.training.model.export import Chance, Number, Prediction, Predictions

CAT = Prediction("cat", {"ant": 0.1, "cat": 0.9})
SEVERAL: Predictions = {"pet": CAT, "age": Number(12.3456789), "tame": Chance(0.75)}


class Predictor:
    def __init__(self, predicted: Predictions) -> None:
        self._predicted = predicted

    def predict(self, pictures: Sequence[object]) -> list[Predictions]:
        return [self._predicted for _ in pictures]


def _said(monkeypatch: pytest.MonkeyPatch, predicted: Predictions, *, as_json: bool) -> str:
    def load(_: Path, *, own: object) -> Predictor:
        assert own is not None
        return Predictor(predicted)

    monkeypatch.setattr(predict, "load_exported", load)
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
