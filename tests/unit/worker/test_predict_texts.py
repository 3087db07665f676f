"""What `predict` makes of texts: those in words, in a table, and on its standard input."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.pictures import picture
from tests.support.text_models import folder_of, tiny_texts
from tests.support.texts import write_csv, write_jsonl
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.__main__ import FAILED, OK, USAGE, main
from worker.data.errors import UnreadableImages
from worker.training.model import backbones
from worker.training.model.card import Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.predictor import Given, Unreadable


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of single texts and of pairs."""
    folder = tmp_path_factory.mktemp("models")
    published = folder_of(folder / "bert")
    data = tiny_texts(published)
    network = backbones.build(
        Model(backbone="bert", weights=str(published)), classes=("no", "yes"), seed=1
    )
    for name, columns in (("single", ("review",)), ("pairs", ("a", "b"))):
        named = replace(data, details={"columns": columns})
        card = make_card(network, named, recipe=Recipe(), seed=0, scores=Scores())
        export(folder / f"{name}.safetensors", network, card=card)
    return folder


def _said(
    capsys: pytest.CaptureFixture[str], model: Path, *argv: str, code: int = OK
) -> Sequence[dict[str, Any]]:
    assert main(["predict", "--model", str(model), "--json", *argv]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_sentence_is_predicted(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models / "single.safetensors"
    first, second = _said(capsys, model, "good film", "so bad")
    assert (first["text"], second["text"]) == ("good film", "so bad")
    assert first["probabilities"] != second["probabilities"]
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert main(["predict", "--model", str(model), "good film"]) == OK
    told = f"good film: {first['class']}, probability {first['probability']:.3f}\n"
    assert capsys.readouterr().out == told


def test_a_table_is_predicted_by_the_columns_that_were_learned_from_or_by_others(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models / "single.safetensors"
    alone = _said(capsys, model, "good film", "so bad")
    path = write_csv(tmp_path / "t.csv", ("id", "review"), [(1, "good film"), (2, "so bad")])
    table = _said(capsys, model, "--file", str(path))
    assert [row.pop("line") for row in table] == [2, 3]
    assert table == alone
    rows = [{"words": "good film"}, {"words": "so bad"}]
    lines = write_jsonl(tmp_path / "t.jsonl", rows)
    others = _said(capsys, model, "--file", str(lines), "--text", "words")
    assert [row["probabilities"] for row in others] == [row["probabilities"] for row in alone]


def test_pairs_are_predicted_two_texts_at_a_time(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models / "pairs.safetensors"
    (pair,) = _said(capsys, model, "good", "bad")
    assert pair["texts"] == ["good", "bad"]
    (turned,) = _said(capsys, model, "bad", "good")
    assert pair["probabilities"] != turned["probabilities"]
    path = write_csv(tmp_path / "t.csv", ("b", "a"), [("bad", "good")])
    (row,) = _said(capsys, model, "--file", str(path))
    assert row["probabilities"] == pair["probabilities"]
    read = io.TextIOWrapper(io.BytesIO(b"good\tbad\n\n"))
    monkeypatch.setattr("sys.stdin", read)
    (line,) = _said(capsys, model, "-")
    assert (line["line"], line["probabilities"]) == (1, pair["probabilities"])


def test_bad_rows_are_named_and_the_others_predicted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"review\ngood\n \nb\xff\nbad\n")
    argv = ["predict", "--model", str(models / "single.safetensors"), "--file", str(path)]
    assert main(argv) == FAILED
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == ["line 2", "line 5"]
    assert "line 4: 'review' is not UTF-8" in err
    assert main([*argv, "--skip-bad"]) == OK


@pytest.mark.parametrize(
    ("model", "argv", "told"),
    [
        ("single", ("{picture}",), "is a file, and this model reads texts"),
        ("single", ("--builtin", "digits"), "this model reads texts, and digits has pictures"),
        (
            "single",
            ("--file", "{table}"),
            "has no column 'review'; name the column of its texts by --text COLUMN",
        ),
        (
            "pairs",
            ("--file", "{table}", "--text", "a", "--text", "c"),
            "has no column 'c'; name the columns of its pairs by --text COLUMN --text COLUMN",
        ),
        ("single", ("  ",), "'  ': it is empty"),
        ("single", ("--file", "{table}", "--text", "a", "--text", "b"), "reads single texts"),
        ("single", ("--file", "/nowhere/t.csv"), "/nowhere/t.csv"),
        ("pairs", ("a", "b", "c"), "give two for each prediction"),
        ("pairs", ("--file", "{table}", "--text", "a"), "give --text COLUMN twice"),
        ("glyphnet", ("a sentence",), "a sentence"),
        ("glyphnet", ("-",), "this model sees pictures"),
        ("glyphnet", ("--file", "{table}"), "this model sees pictures"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    argv: Sequence[str],
    told: str,
) -> None:
    picture(1).save(tmp_path / "a.png")
    table = write_csv(tmp_path / "t.csv", ("a", "b"), [("good", "bad")])
    given = [word.format(picture=tmp_path / "a.png", table=table) for word in argv]
    path = (
        backbones.GLYPHNET_WEIGHTS if model == "glyphnet" else models / f"{model}.safetensors"
    )
    assert main(["predict", "--model", str(path), *given]) == FAILED
    assert told in capsys.readouterr().err


def test_samples_are_given_in_one_way(models: Path) -> None:
    model = str(models / "single.safetensors")
    assert main(["predict", "--model", model]) == USAGE
    assert main(["predict", "--model", model, "a", "--file", "t.csv"]) == USAGE


@pytest.mark.parametrize(
    ("model", "sample", "told"),
    [
        ("single", ("good", "bad"), "it is a pair, and the model reads single texts"),
        ("single", Path("a.png"), "it is no text, and the model reads texts"),
        ("pairs", "good", "it is a single text, and the model reads pairs"),
    ],
)
def test_what_a_loaded_model_does_not_take_is_told_beside_what_it_predicts(
    models: Path, model: str, sample: Given, told: str
) -> None:
    predictor = load_exported(models / f"{model}.safetensors")
    fit: Given = "bad" if model == "single" else ("bad", "good")
    found, alone = predictor.predict_readable([sample, fit]), predictor.predict([fit])
    assert found == [Unreadable(told), *alone]
    with pytest.raises(UnreadableImages, match="1 text cannot be read"):
        predictor.predict([sample, fit])
