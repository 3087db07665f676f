"""Folders for `backbone: hf`: what is wrong with one is told in words, no code of it is run, and nothing is fetched."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.hf_folders import configured, hf_folder, stored
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.errors import TokenizerUnusable
from worker.training.errors import (
    LibraryMissing,
    TextModelMissing,
    TextModelUnfit,
    TextModelUnreadable,
    TooManyTokens,
    WeightsNotFinite,
)
from worker.training.model import backbones
from worker.training.model.backbones import Backbone


def _built(folder: Path) -> Backbone:
    model = Model(backbone="hf", weights=str(folder))
    return backbones.build(model, classes=("no", "yes"), seed=0)


def _tokenizer(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "tokenizer.json"
    path.write_text(change(path.read_text()))


def _more_words(text: str) -> str:
    whole = json.loads(text)
    words = whole["model"]["vocab"]
    words |= {letter: len(words) + place for place, letter in enumerate("bcdefgh")}
    return json.dumps(whole)


ONE = "encoder.layer.1.output.dense.bias"
FAULTS: dict[str, tuple[str, Callable[[Path], object], type[Exception], str]] = {
    "a kind that the library does not know": (
        "mpnet",
        lambda folder: configured(folder, model_type="mine", auto_map={"AutoModel": "own.M"}),
        TextModelUnfit,
        "its model_type is 'mine', which transformers 5",
    ),
    "an encoder with a decoder": (
        "mpnet",
        lambda folder: configured(folder, model_type="t5", is_encoder_decoder=True),
        TextModelUnfit,
        "an encoder alone is needed",
    ),
    "a decoder": (
        "bert",
        lambda folder: configured(folder, is_decoder=True),
        TextModelUnfit,
        "its tokens do not see those behind them: it is a decoder",
    ),
    "padding is mixed in": (
        "fnet",
        lambda _: None,
        TextModelUnfit,
        "changes with the padding behind it",
    ),
    "neighbours are convolved, and so the padding behind the last one": (
        "convbert",
        lambda _: None,
        TextModelUnfit,
        "changes with the padding behind it",
    ),
    "words are embedded with their neighbours": (
        "mobilebert",
        lambda _: None,
        TextModelUnfit,
        "changes with the padding behind it",
    ),
    "its layers are called in some other way": (
        "squeezebert",
        lambda _: None,
        TextModelUnfit,
        "its layers are not called one after the other",
    ),
    "it takes no texts": (
        "mpnet",
        lambda folder: configured(folder, model_type="vit"),
        TextModelUnfit,
        "this model for texts cannot be used",
    ),
    "quantised": (
        "mpnet",
        lambda folder: configured(folder, quantization_config={"quant_method": "gptq"}),
        TextModelUnfit,
        "its weights are quantised",
    ),
    "no tokenizer": (
        "mpnet",
        lambda folder: (folder / "tokenizer.json").unlink(),
        TokenizerUnusable,
        "has no tokenizer.json, which `backbone: hf` needs",
    ),
    "a larger vocabulary": (
        "mpnet",
        lambda folder: _tokenizer(folder, _more_words),
        TextModelUnfit,
        "its tokenizer has 23 word pieces, and its network knows 20: they are of two models",
    ),
    "another padding": (
        "mpnet",
        lambda folder: configured(folder, pad_token_id=1),
        TextModelUnfit,
        "its tokenizer pads with word piece 0, and its network with 1",
    ),
    "no weights": (
        "mpnet",
        lambda folder: (folder / "model.safetensors").unlink(),
        TextModelUnreadable,
        "it holds none of model.safetensors",
    ),
    "weights that are no such file": (
        "mpnet",
        lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"),
        TextModelUnreadable,
        "no model for texts can be read from it",
    ),
    "a tensor is missing": (
        "mpnet",
        lambda folder: stored(folder, lambda tensors: tensors.pop(ONE)),
        TextModelUnfit,
        f"model.safetensors lacks {ONE} of its network",
    ),
    "weights of another architecture": (
        "bert",
        lambda folder: configured(folder, model_type="mpnet"),
        TextModelUnfit,
        "model.safetensors lacks ",
    ),
    "other shapes": (
        "mpnet",
        lambda folder: configured(folder, intermediate_size=32),
        TextModelUnfit,
        "in other shapes than config.json",
    ),
    "not finite": (
        "mpnet",
        lambda folder: stored(folder, lambda tensors: tensors[ONE].fill_(torch.inf)),
        WeightsNotFinite,
        f"values that are not finite, such as {ONE}",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_folder_that_is_no_whole_encoder_is_refused_in_words(
    fault: tuple[str, Callable[[Path], object], type[Exception], str], tmp_path: Path
) -> None:
    kind, spoil, error, words = fault
    spoil(hf_folder(tmp_path, kind))
    with pytest.raises(error) as raised:
        _built(tmp_path)
    assert words in str(raised.value)


def test_code_that_a_folder_brings_is_never_run(tmp_path: Path) -> None:
    folder, trace = hf_folder(tmp_path, "mpnet"), tmp_path / "was-run"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w')\n")
    configured(folder, auto_map={"AutoModel": "own.Own", "AutoConfig": "own.OwnConfig"})
    assert _built(folder).name == "hf"
    assert not trace.exists()


@pytest.mark.parametrize("name", ["microsoft/deberta-v3-base", "/nowhere/deberta"])
def test_a_name_of_a_hub_is_refused_before_the_library_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    model = Model(backbone="hf", weights=name)
    with pytest.raises(TextModelMissing, match="a name of a hub is not fetched"):
        backbones.input_spec(model, Recipe())
    with pytest.raises(TextModelMissing, match=name):
        backbones.build(model, classes=("no", "yes"), seed=0)


def test_without_the_extra_a_worker_says_which_one_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mpnet"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    model = Model(backbone="hf", weights=str(tmp_path))
    with pytest.raises(LibraryMissing, match=r"pip install 'trimtab\[hf\]'") as caught:
        backbones.input_spec(model, Recipe())
    assert caught.value.kind == "data_missing"


def test_more_of_a_text_than_there_are_positions_is_refused(tmp_path: Path) -> None:
    model = Model(backbone="hf", weights=str(hf_folder(tmp_path, "xlm-roberta")))
    with pytest.raises(TooManyTokens, match=r"max_tokens is 20, and .* has positions for 19"):
        backbones.input_spec(model, Recipe(max_tokens=20))
