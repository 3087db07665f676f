"""A model as one file, and the file as something that predicts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pictures import picture, tiny_data
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import Split, TaskData
from worker.data.errors import UnreadableImages
from worker.training import safetensors_files
from worker.training.errors import ModelUnreadable
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.predictor import Prediction

DATA = tiny_data()
RECIPE = Recipe(epochs=2, batch_size=8)


def _trained(data: TaskData = DATA) -> Backbone:
    model = backbones.build(Model(backbone="glyphnet"), classes=data.classes, seed=0)
    list(fit(TrainingRequest(model, data, RECIPE, seed=0, device=CPU)))
    return model


def _export(path: Path, model: Backbone, data: TaskData = DATA) -> None:
    card = make_card(
        model,
        data,
        recipe=RECIPE,
        seed=4,
        scores=Scores(validation_accuracy=0.5, test_accuracy=0.25),
        pretrained=Model(backbone="glyphnet"),
    )
    export(path, model, card=card)


def test_an_exported_model_has_the_logits_of_the_trained_one(tmp_path: Path) -> None:
    model = _trained()
    _export(tmp_path / "m.safetensors", model)
    loaded = load_exported(tmp_path / "m.safetensors").members[0].model
    images = torch.from_numpy(DATA.validation.inputs)
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), loaded(images))


def test_the_card_tells_all_that_prediction_needs_and_how_good_it_is(tmp_path: Path) -> None:
    _export(tmp_path / "m.safetensors", _trained())
    card = load_exported(tmp_path / "m.safetensors").card
    assert (card.backbone, card.classes) == ("glyphnet", ("a", "b", "c"))
    assert card.shape == (8, 8, 1)
    assert card.input == _trained().input.card()
    assert card.recipe == RECIPE
    assert (card.seed, card.data_sha256, card.counts) == (4, "0" * 64, DATA.counts)
    assert card.scores == Scores(validation_accuracy=0.5, test_accuracy=0.25)
    assert card.pretrained == Model(backbone="glyphnet")


def test_predictions_have_a_probability_for_each_class_and_name_the_likeliest(
    tmp_path: Path,
) -> None:
    model = _trained()
    _export(tmp_path / "m.safetensors", model)
    pictures = [Image.fromarray(image[:, :, 0]) for image in DATA.validation.inputs]
    predictions = load_exported(tmp_path / "m.safetensors").predict(pictures)
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(DATA.validation.inputs))
    for prediction, row in zip(predictions, logits, strict=True):
        assert isinstance(prediction, Prediction)
        assert prediction.class_name == DATA.classes[int(row.argmax())]
        assert prediction.probabilities[prediction.class_name] == max(
            prediction.probabilities.values()
        )
        assert sum(prediction.probabilities.values()) == pytest.approx(1.0)


def test_a_picture_file_of_any_size_and_kind_is_predicted(tmp_path: Path) -> None:
    _export(tmp_path / "m.safetensors", _trained())
    picture(size=(30, 20), mode="RGBA").save(tmp_path / "a.png")
    assert len(load_exported(tmp_path / "m.safetensors").predict([tmp_path / "a.png"])) == 1


def test_pictures_are_predicted_in_the_form_that_was_trained_on(tmp_path: Path) -> None:
    model, recipe = _trained(), RECIPE.model_copy(update={"resize": "pad"})
    data = replace(DATA, details={"levels": [0, 4095]})
    card = make_card(model, data, recipe=recipe, seed=4, scores=Scores())
    export(tmp_path / "m.safetensors", model, card=card)
    values = np.arange(128, dtype=np.uint16).reshape(8, 16) * 32
    Image.fromarray(values).save(tmp_path / "a.png")
    stored = np.zeros((1, 8, 8, 1), dtype=np.uint8)
    grey = Image.fromarray((values >> 4).astype(np.uint8))
    stored[0, 2:6, :, 0] = np.asarray(grey.resize((8, 4), Image.Resampling.BILINEAR))
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(stored)).double().softmax(1)[0]
    predictor = load_exported(tmp_path / "m.safetensors")
    for given in (tmp_path / "a.png", Image.fromarray(values)):
        (predicted,) = predictor.predict([given])
        assert isinstance(predicted, Prediction)
        assert list(predicted.probabilities.values()) == pytest.approx(expected.tolist())
    with pytest.raises(UnreadableImages, match="32 bits"):
        predictor.predict([Image.new("F", (8, 8))])


def test_a_model_of_colour_pictures_sees_colours(tmp_path: Path) -> None:
    images = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    split = Split(images, np.array([0, 1, 0, 1, 0, 1]))
    data = TaskData(split, split, ("a", "b"), "0" * 64, {"train": 6})
    _export(tmp_path / "m.safetensors", _trained(data), data)
    assert load_exported(tmp_path / "m.safetensors").card.shape == (8, 8, 3)


def test_no_pictures_get_no_predictions(tmp_path: Path) -> None:
    _export(tmp_path / "m.safetensors", _trained())
    assert load_exported(tmp_path / "m.safetensors").predict([]) == []


def test_unreadable_pictures_are_all_named(tmp_path: Path) -> None:
    _export(tmp_path / "m.safetensors", _trained())
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(UnreadableImages) as caught:
        load_exported(tmp_path / "m.safetensors").predict(
            [tmp_path / "bad.png", tmp_path / "gone.png"]
        )
    assert {path.name for path in caught.value.reasons} == {"bad.png", "gone.png"}


def test_an_exported_model_is_weights_to_begin_from_and_knows_its_classes(
    tmp_path: Path,
) -> None:
    model = _trained()
    _export(tmp_path / "m.safetensors", model)
    spec = Model(backbone="glyphnet", weights=str(tmp_path / "m.safetensors"))
    again = backbones.build(spec, classes=("c", "a"), seed=0)
    assert again.own_head is not None
    assert torch.equal(again.own_head["bias"], model.network.state_dict()["fc.bias"][[2, 0]])


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("old")

    def no_room(path: Path, *_: object) -> None:
        path.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors_files, "write", no_room)
    with pytest.raises(OSError, match="no space"):
        _export(path, _trained())
    assert [found.name for found in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.read_text() == "old"


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(1)}
    (tmp_path / "text").write_text("x")
    safetensors_files.write(tmp_path / "cardless", tensors, {})
    safetensors_files.write(tmp_path / "foreign", tensors, {CARD_KEY: '{"backbone": "x"}'})
    for name, why in {
        "gone": "No such file",
        "text": "no model can be read from it .it is not a safetensors file",
        "cardless": "no model card",
        "foreign": "another release",
    }.items():
        with pytest.raises(ModelUnreadable, match=why) as caught:
            load_exported(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_tensors_that_are_not_the_cards_network_are_refused(tmp_path: Path) -> None:
    _export(tmp_path / "m.safetensors", _trained())
    _, metadata = safetensors_files.read(tmp_path / "m.safetensors")
    safetensors_files.write(tmp_path / "m.safetensors", {"a": torch.zeros(1)}, metadata)
    with pytest.raises(ModelUnreadable, match="not those of glyphnet"):
        load_exported(tmp_path / "m.safetensors")
