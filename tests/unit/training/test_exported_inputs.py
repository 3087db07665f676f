"""What an exported model does to its inputs is in its file: the backbone's code may change, and older files still load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.pictures import picture, tiny_data
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training import safetensors_files
from worker.training.errors import ModelUnreadable
from worker.training.loop.distillation import Teacher
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.card import CARD_KEY, ImageStatistics, Scores
from worker.training.model.export import export, load_exported, make_card, read_card
from worker.training.model.user_backbones import OwnBackbones

MINE = """
from torch import nn

def net(outputs):
    body = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(24, outputs))

BACKBONES = {"net": {"build": net, **FACTS}}
"""
FACTS = {"mean": [0.5], "std": [0.25], "image_size": 12, "one_size": True}
DATA = tiny_data()
RECIPE = Recipe(epochs=1, batch_size=8)
SPEC = Model(backbone="user:net", weights="none")


def registered(folder: Path, **changes: object) -> OwnBackbones:
    """A person's file with these facts, read anew."""
    path = folder / "mine.py"
    path.write_text(MINE.replace("FACTS", repr({**FACTS, **changes})))
    return OwnBackbones.gather([path])


def exported(folder: Path, **facts: object) -> Path:
    """A model of the person's backbone, trained and exported."""
    own = registered(folder, **facts)
    model = backbones.build(SPEC, classes=DATA.classes, seed=0, own=own)
    list(fit(TrainingRequest(model, DATA, RECIPE, seed=0, device=CPU)))
    card = make_card(model, DATA, recipe=RECIPE, seed=0, scores=Scores(), pretrained=None)
    export(folder / "m.safetensors", model, card=card)
    return folder / "m.safetensors"


def written_as_before(path: Path, **changes: object) -> Path:
    """Give a file the card that it had before cards said what the input layer is."""
    tensors, metadata = safetensors_files.read(path)
    card = json.loads(metadata[CARD_KEY])
    side, _, channels = card.pop("shape")
    layer = card.pop("input")
    card |= {"image_size": side, "channels": channels}
    card |= {"mean": layer["mean"], "std": layer["std"]} | changes
    told = {name: value for name, value in card.items() if value is not ...}
    safetensors_files.write(path, tensors, {CARD_KEY: json.dumps(told)})
    return path


def predictions(path: Path, own: OwnBackbones) -> list[Any]:
    """What a file, opened anew, makes of three pictures; equal only if all bits are."""
    pictures = [picture(seed, size=(20, 17)) for seed in range(3)]
    return load_exported(path, own=own).predict(pictures)


@pytest.mark.parametrize(
    "edit", [{"mean": [0.1]}, {"std": [0.5]}, {"one_size": False}, {"image_size": 24}]
)
def test_a_persons_edit_of_their_backbones_facts_leaves_exported_models_as_they_were(
    tmp_path: Path, edit: dict[str, object]
) -> None:
    path = exported(tmp_path)
    before = predictions(path, registered(tmp_path))
    assert predictions(path, registered(tmp_path, **edit)) == before


def test_a_file_exported_before_its_card_had_an_input_predicts_the_same_bits(
    tmp_path: Path,
) -> None:
    path = exported(tmp_path)
    own = registered(tmp_path)
    before = predictions(path, own)
    assert predictions(written_as_before(path), own) == before
    # Its statistics were always there; only the sides it did not say are those of the code.
    assert predictions(path, registered(tmp_path, mean=[0.1], std=[0.5])) == before
    assert predictions(path, registered(tmp_path, one_size=False)) != before


def test_a_teacher_exported_before_its_card_had_an_input_answers_the_same_bits(
    tmp_path: Path,
) -> None:
    path = exported(tmp_path)
    own = registered(tmp_path)
    stored = torch.from_numpy(tiny_data(side=16).train.inputs)
    before = Teacher(path, DATA.classes, own).at_work(CPU, "float32")(stored)
    again = Teacher(written_as_before(path), DATA.classes, own).at_work(CPU, "float32")(stored)
    assert torch.equal(again, before)


def test_the_weights_that_come_with_trimtab_are_read_in_the_form_that_they_have() -> None:
    card = read_card(backbones.GLYPHNET_WEIGHTS)
    assert card.shape == (8, 8, 1)
    assert isinstance(card.input, ImageStatistics)
    built = backbones.build(Model(backbone="glyphnet"), classes=("0", "1"), seed=0).input
    assert (
        load_exported(backbones.GLYPHNET_WEIGHTS).members[0].model.input.card() == built.card()
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"image_size": ...},
        {"image_size": 0},
        {"image_size": "8"},
        {"channels": ...},
        {"mean": ...},
        {"std": []},
        {"side": 8},
        {"input": None},
        {"input": {"kind": "sound"}},
    ],
)
def test_a_card_that_lacks_what_prediction_needs_is_refused(
    tmp_path: Path, damage: dict[str, object]
) -> None:
    path = written_as_before(exported(tmp_path), **damage)
    with pytest.raises(ModelUnreadable, match="another release"):
        load_exported(path, own=registered(tmp_path))
