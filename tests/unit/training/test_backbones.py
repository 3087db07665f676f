"""Backbones: a new head on pretrained weights, taking pictures as the data room keeps them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.images.glyphs import CHARACTERS
from worker.data.modality import ImageSpec
from worker.training import safetensors_files
from worker.training.errors import WeightsPartial
from worker.training.model import backbones, glyphnet, weights_files
from worker.training.model.card import CARD_KEY
from worker.training.model.image_input import ImageInput

DIGITS = tuple("0123456789")
PRETRAINED = Model(backbone="glyphnet")
RANDOM = Model(backbone="glyphnet", weights="none")


def test_glyphnet_is_small_and_comes_with_its_weights() -> None:
    model = backbones.build(PRETRAINED, classes=DIGITS, seed=0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 100_000 < parameters < 150_000
    assert backbones.GLYPHNET_WEIGHTS.stat().st_size < 1_000_000
    assert model.report is not None
    assert model.report.left_out == model.report.missing == model.report.unused == ()


def test_the_pretrained_weights_are_taken_over_and_a_head_for_other_classes_is_new() -> None:
    model = backbones.build(PRETRAINED, classes=("cat", "dog"), seed=0)
    file = weights_files.read(backbones.GLYPHNET_WEIGHTS)
    for name, value in model.network.state_dict().items():
        if name.startswith("fc."):
            assert len(value) == 2
        else:
            assert torch.equal(value, file.tensors[name])
    assert model.report is not None
    assert model.report.left_out == ("fc.weight", "fc.bias")
    assert "2 of another shape or of a head for other classes" in model.report.in_words()


def test_the_seed_decides_the_head_and_all_of_a_random_network() -> None:
    for spec in (PRETRAINED, RANDOM):
        one, same, other = (
            backbones.build(spec, classes=("cat", "dog"), seed=seed).network.state_dict()
            for seed in (1, 1, 2)
        )
        assert same_tensors(one, same)
        assert not torch.equal(one["fc.weight"], other["fc.weight"])
        assert torch.equal(one["conv1.weight"], other["conv1.weight"]) == (spec is PRETRAINED)


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backbones.build(RANDOM, classes=DIGITS, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_a_head_that_knew_all_the_classes_by_name_is_what_training_begins_with() -> None:
    model = backbones.build(PRETRAINED, classes=("7", "a", "0"), seed=0)
    file = weights_files.read(backbones.GLYPHNET_WEIGHTS)
    rows = [CHARACTERS.index(name) for name in ("7", "a", "0")]
    for head in (model.head.state_dict(), model.own_head):
        assert head is not None
        assert torch.equal(head["weight"], file.tensors["fc.weight"][rows])
        assert torch.equal(head["bias"], file.tensors["fc.bias"][rows])
    assert model.report is not None
    assert model.report.head
    assert model.report.left_out == ()
    assert "kept: its own head" in model.report.in_words()


def test_a_quantised_head_is_no_head(tmp_path: Path) -> None:
    spec = _with_classes(tmp_path / "m.safetensors", DIGITS)
    tensors, metadata = safetensors_files.read(Path(spec.weights))
    tensors["fc.weight"] = (tensors["fc.weight"] * 127).to(torch.int8)
    safetensors_files.write(Path(spec.weights), tensors, metadata)
    assert backbones.build(spec, classes=DIGITS, seed=0).own_head is None


def test_a_name_that_a_published_head_has_twice_tells_nothing(tmp_path: Path) -> None:
    told = _with_classes(tmp_path / "m.safetensors", ("crane", "dog", "crane"))
    assert backbones.build(told, classes=("dog", "crane"), seed=0).own_head is None
    assert backbones.build(told, classes=("dog",), seed=0).own_head is not None


def test_a_head_that_knew_only_some_of_the_classes_is_of_no_use() -> None:
    assert backbones.build(PRETRAINED, classes=("7", "cat"), seed=0).own_head is None
    assert backbones.build(RANDOM, classes=DIGITS, seed=0).own_head is None


def test_a_path_may_be_relative_to_the_weights_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(backbones.GLYPHNET_WEIGHTS.read_bytes())
    spec = Model(backbone="glyphnet", weights="mine.safetensors")
    model = backbones.build(spec, classes=DIGITS, seed=0, weights_dir=tmp_path)
    assert model.report is not None
    assert model.report.source == str(tmp_path / "mine.safetensors")


def _with_classes(path: Path, classes: Sequence[str]) -> Model:
    """Write weights whose head tells these classes apart, and says so."""
    trained = backbones.build(RANDOM, classes=classes, seed=7)
    card = json.dumps({"classes": list(classes)})
    safetensors_files.write(path, dict(trained.network.state_dict()), {CARD_KEY: card})
    return Model(backbone="glyphnet", weights=str(path))


def test_a_head_of_as_many_other_classes_is_not_taken(tmp_path: Path) -> None:
    spec = _with_classes(tmp_path / "m.safetensors", DIGITS)
    trained = backbones.build(RANDOM, classes=DIGITS, seed=7).network.state_dict()
    others = tuple(f"class {number}" for number in range(10))
    for seed in (0, 1):
        new = backbones.build(spec, classes=others, seed=seed).network.state_dict()
        assert not torch.equal(new["fc.weight"], trained["fc.weight"])
        assert torch.equal(new["conv1.weight"], trained["conv1.weight"])
    reversed_ = backbones.build(spec, classes=DIGITS[::-1], seed=0).network.state_dict()
    assert torch.equal(reversed_["fc.weight"], trained["fc.weight"].flip(0))


def test_grey_and_colour_pictures_of_the_same_grey_are_alike_to_a_grey_network() -> None:
    model = backbones.build(PRETRAINED, classes=DIGITS, seed=0).eval()
    grey = torch.randint(0, 256, (4, 8, 8, 1), dtype=torch.uint8)
    logits = [model(grey), model(grey.expand(-1, -1, -1, 3))]
    assert torch.allclose(*logits, atol=1e-4)


def test_pictures_are_normalised_by_what_the_network_was_trained_on() -> None:
    data = tiny_data()
    model = tiny_backbone(data).eval()
    images = torch.randint(0, 256, (4, 8, 8, 1), dtype=torch.uint8)
    by_hand = (images.permute(0, 3, 1, 2) / 255 - 0.4) / 0.3
    assert torch.allclose(model(images), model.network(by_hand), atol=1e-6)


def test_small_pictures_are_enlarged_to_what_the_network_can_take() -> None:
    model = tiny_backbone(tiny_data()).eval()
    model.input = ImageInput((0.4,), (0.3,), least_side=8)
    assert model(torch.zeros(2, 5, 5, 1, dtype=torch.uint8)).shape == (2, 3)


def test_features_are_what_the_head_sees() -> None:
    model = backbones.build(PRETRAINED, classes=DIGITS, seed=0).eval()
    images = torch.randint(0, 256, (4, 8, 8, 1), dtype=torch.uint8)
    features = model.features(images)
    assert features.shape == (4, glyphnet.WIDTHS[-1])
    assert torch.equal(model.head(features), model(images))


def test_every_parameter_but_the_heads_is_in_exactly_one_stage() -> None:
    model = backbones.build(RANDOM, classes=DIGITS, seed=0)
    staged = [
        id(parameter)
        for stage in model.stages
        for name, parameter in model.network.named_parameters()
        if backbones.is_within(name, stage)
    ]
    head = [id(parameter) for parameter in model.head.parameters()]
    assert sorted(staged + head) == sorted(id(p) for p in model.network.parameters())


@pytest.mark.parametrize("size", [None, 16])
def test_glyphnet_takes_the_pictures_as_they_are_unless_the_recipe_says_otherwise(
    size: int | None,
) -> None:
    assert backbones.input_spec(PRETRAINED, Recipe(image_size=size)) == ImageSpec(size)


def test_partial_weights_are_taken_where_the_study_says_so(tmp_path: Path) -> None:
    some = weights_files.read(backbones.GLYPHNET_WEIGHTS).tensors["conv1.weight"]
    torch.save({"conv1.weight": some}, tmp_path / "some.ckpt")
    study = {"backbone": "glyphnet", "weights": str(tmp_path / "some.ckpt")}
    with pytest.raises(WeightsPartial, match=r"1 tensor of .*some.ckpt fit; "):
        backbones.build(Model.model_validate(study), classes=DIGITS, seed=0)
    partial = Model.model_validate(study | {"partial_weights": True})
    model = backbones.build(partial, classes=DIGITS, seed=0)
    assert torch.equal(model.network.state_dict()["conv1.weight"], some)


@pytest.mark.parametrize("name", ["glyphnet", "cifar_resnet20", "resnet18"])
@pytest.mark.parametrize("size", [None, 48])
def test_every_backbone_takes_pictures_made_square_as_the_recipe_says(
    name: str, size: int | None
) -> None:
    recipe = Recipe(image_size=size, resize="pad")
    spec = backbones.input_spec(Model(backbone=name), recipe)
    assert isinstance(spec, ImageSpec)
    assert spec.resize == "pad"
