"""Folders of encoders: what is wrong with one is told in words, before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.support.text_models import SMALL, folder_of
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.errors import TokenizerUnusable
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import sha256_of
from worker.training import safetensors_files
from worker.training.errors import (
    TextModelMissing,
    TextModelUnfit,
    TextModelUnreadable,
    TooManyTokens,
    WeightsNotFinite,
)
from worker.training.model import backbones, bert
from worker.training.model.backbones import Backbone


def _built(folder: Path, **fields: object) -> Backbone:
    model = Model.model_validate({"backbone": "bert", "weights": str(folder), **fields})
    return backbones.build(model, classes=("no", "yes"), seed=0)


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _configured(folder: Path, **config: object) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **SMALL, **config}))


def _stored(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors, _ = safetensors_files.read(folder / "model.safetensors")
    change(tensors)
    safetensors_files.write(folder / "model.safetensors", tensors, {"format": "pt"})


def _as_of_resnet(tensors: dict[str, torch.Tensor]) -> None:
    tensors.clear()
    tensors["conv1.weight"] = torch.zeros(64, 3, 7, 7)


ONE = "encoder.layer.1.output.dense.bias"
FAULTS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no configuration": (
        lambda folder: _without(folder, "config.json"),
        TextModelUnreadable,
        "config.json, model.safetensors or pytorch_model.bin, and tokenizer.json or vocab.txt",
    ),
    "a field is missing": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
        TextModelUnreadable,
        "vocab_size",
    ),
    "no weights": (
        lambda folder: _without(folder, "model.safetensors"),
        TextModelUnreadable,
        "it holds none of model.safetensors, pytorch_model.bin",
    ),
    "no tokenizer": (
        lambda folder: _without(folder, "vocab.txt"),
        TokenizerUnusable,
        "has no tokenizer",
    ),
    "another kind": (
        lambda folder: _configured(folder, model_type="t5"),
        TextModelUnfit,
        "its model_type is 't5', and bert, distilbert, electra, roberta are known",
    ),
    "relative positions": (
        lambda folder: _configured(folder, position_embedding_type="relative_key"),
        TextModelUnfit,
        "its positions are relative ones",
    ),
    "a larger vocabulary": (
        lambda folder: (folder / "vocab.txt").write_text(
            (folder / "vocab.txt").read_text() + "\n".join("abcdefgh") + "\n"
        ),
        TextModelUnfit,
        "its tokenizer has 24 word pieces, and its network knows 20: they are of two models",
    ),
    "weights of another architecture": (
        lambda folder: _stored(folder, _as_of_resnet),
        TextModelUnfit,
        "model.safetensors lacks embeddings.words, embeddings.positions, embeddings.types and ",
    ),
    "a tensor is missing": (
        lambda folder: _stored(folder, lambda tensors: tensors.pop(ONE)),
        TextModelUnfit,
        "model.safetensors lacks layers.1.down.bias of its network",
    ),
    "other shapes": (
        lambda folder: _configured(folder, intermediate_size=32),
        TextModelUnfit,
        "in other shapes than config.json",
    ),
    "not finite": (
        lambda folder: _stored(folder, lambda tensors: tensors[ONE].fill_(torch.inf)),
        WeightsNotFinite,
        "values that are not finite, such as layers.1.down.bias",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_folder_that_is_no_whole_model_is_refused_in_words(
    fault: tuple[Callable[[Path], object], type[Exception], str], tmp_path: Path
) -> None:
    spoil, kind, words = fault
    spoil(folder_of(tmp_path))
    with pytest.raises(kind) as raised:
        _built(tmp_path)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "/nowhere/bert"])
def test_a_name_of_a_hub_is_a_folder_that_is_not_there_and_nothing_is_fetched(
    name: str,
) -> None:
    model = Model(backbone="bert", weights=name)
    with pytest.raises(TextModelMissing, match="a name of a hub is not fetched"):
        backbones.input_spec(model, Recipe())
    with pytest.raises(TextModelMissing, match=name):
        backbones.build(model, classes=("no", "yes"), seed=0)


@pytest.mark.parametrize("backbone", ["bert", "hf"])
def test_a_file_of_weights_alone_is_no_folder(backbone: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    model = Model(backbone=backbone, weights=str(path))
    with pytest.raises(
        TextModelUnreadable, match=r"\(it is a file\); `model.weights` is a folder"
    ):
        backbones.input_spec(model, Recipe())


def test_a_text_is_read_as_far_as_the_recipe_and_the_positions_reach(tmp_path: Path) -> None:
    model = Model(backbone="bert", weights=str(folder_of(tmp_path)))
    sha256 = sha256_of(tmp_path)
    assert backbones.input_spec(model, Recipe()) == TokenSpec(tmp_path, sha256, 16)
    short = Recipe(max_tokens=9)
    assert backbones.input_spec(model, short) == TokenSpec(tmp_path, sha256, 9)
    with pytest.raises(TooManyTokens, match=r"max_tokens is 17, and .* has positions for 16"):
        backbones.input_spec(model, Recipe(max_tokens=17))


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"layers": 3}, [0, 2, 4]),
        ({"layers": 2, "layers_kept": "first"}, [0, 1]),
    ],
)
def test_a_student_keeps_some_of_the_layers(
    fields: dict[str, object], kept: list[int], tmp_path: Path
) -> None:
    model = _built(folder_of(tmp_path, num_hidden_layers=6), **fields)
    tensors, _ = safetensors_files.read(tmp_path / "model.safetensors")
    assert isinstance(model.network, bert.Encoder)
    found = [layer.get_parameter("query.weight") for layer in model.network.layers]
    wanted = [tensors[f"encoder.layer.{number}.attention.self.query.weight"] for number in kept]
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert len(model.stages) == len(kept) + 1


def test_more_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TextModelUnfit, match=r"it has 3 layers, and `model\.layers` asks for 4"
    ):
        _built(folder_of(tmp_path), layers=4)


def test_a_torch_file_with_the_names_of_before_gives_the_same_network(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    wanted = _built(folder).network.state_dict()
    tensors, _ = safetensors_files.read(folder / "model.safetensors")
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): one
        for name, one in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(16).unsqueeze(0)
    old["cls.predictions.bias"] = torch.zeros(20)
    torch.save(old, folder / "pytorch_model.bin")
    _without(folder, "model.safetensors")
    model = _built(folder)
    assert all(
        torch.equal(one, wanted[name]) for name, one in model.network.state_dict().items()
    )
    assert model.report is not None
    assert set(model.report.unused) == {"bert.embeddings.position_ids", "cls.predictions.bias"}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"backbone": "bert"}, "set `weights` to the path of one as it is published"),
        ({"backbone": "bert", "weights": "none"}, "a name is not fetched from a hub"),
        ({"backbone": "resnet18", "layers": 2}, "other backbones are taken whole"),
    ],
)
def test_a_model_that_cannot_be_made_is_refused_in_the_document(
    model: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Model.model_validate(model)
