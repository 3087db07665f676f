"""Several models as one file: what it answers, what may stand in it, and who reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support.pictures import picture, tiny_columns, tiny_data
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import TaskData
from worker.training import safetensors_files
from worker.training.device.placement import autocast
from worker.training.errors import MembersUnlike, ModelUnreadable, WeightsOfSeveral
from worker.training.loop.distillation import Teacher
from worker.training.model import backbones, heads
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, ModelCard, Scores, together
from worker.training.model.export import (
    export,
    export_together,
    load_exported,
    make_card,
    read_card,
)
from worker.training.model.predictor import Chance, Number, Prediction

DATA = tiny_data()
RECIPE = Recipe(epochs=1)
PICTURES = [Image.fromarray(stored[..., 0]) for stored in DATA.validation.inputs]


def member(
    seed: int, data: TaskData = DATA, recipe: Recipe = RECIPE
) -> tuple[Backbone, ModelCard]:
    """A model that nobody has trained, and its card."""
    model = backbones.build(
        Model(backbone="glyphnet", weights="none"),
        classes=data.outputs,
        seed=seed,
        head=heads.of(recipe, data.kind),
    )
    return model, make_card(model, data, recipe=recipe, seed=seed, scores=Scores())


def written(path: Path, *members: tuple[Backbone, ModelCard]) -> Path:
    card = together([card for _, card in members], scores=Scores(test_accuracy=0.5))
    export_together(path, [model for model, _ in members], card=card)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return written(tmp_path / "pair.safetensors", member(1), member(2))


def alone(
    path: Path, one: tuple[Backbone, ModelCard], pictures: Sequence[Image.Image]
) -> list[Prediction]:
    """What one model by itself predicts."""
    export(path, one[0], card=one[1])
    found = load_exported(path).predict(pictures)
    return [each for each in found if isinstance(each, Prediction)]


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(
    tmp_path: Path, pair: Path
) -> None:
    one, other = (alone(tmp_path / "m.safetensors", member(seed), PICTURES) for seed in (1, 2))
    found = load_exported(pair).predict(PICTURES)
    assert len(found) == len(PICTURES)
    for together_, first, second in zip(found, one, other, strict=True):
        assert isinstance(together_, Prediction)
        expected = {
            name: (first.probabilities[name] + second.probabilities[name]) / 2
            for name in DATA.classes
        }
        assert together_.probabilities == pytest.approx(expected)
        assert together_.class_name == max(expected, key=expected.__getitem__)


def test_each_member_sees_pictures_in_its_own_form(tmp_path: Path) -> None:
    large = tiny_data(side=16)
    squash = RECIPE.model_copy(update={"resize": "squash"})
    members = member(1), member(2, large, squash)
    path = written(tmp_path / "pair.safetensors", *members)
    wide = picture(3, mode="L", size=(40, 20))
    own = [alone(tmp_path / "m.safetensors", one, [wide])[0].probabilities for one in members]
    expected = {name: (own[0][name] + own[1][name]) / 2 for name in DATA.classes}
    (found,) = load_exported(path).predict([wide])
    assert isinstance(found, Prediction)
    assert found.probabilities == pytest.approx(expected)


def test_numbers_and_chances_are_averaged_in_their_own_units(tmp_path: Path) -> None:
    data = tiny_columns("multi_task")
    species, size, large = data.targets
    # As where each was trained on other labels: the same target, with another mean and deviation.
    others = replace(data, targets=(species, replace(size, mean=50.0, std=3.0), large))
    members = member(1, data), member(2, others)
    predicted: list[Mapping[str, object]] = []
    for number, (model, card) in enumerate(members):
        path = tmp_path / f"{number}.safetensors"
        export(path, model, card=card)
        predicted += [
            each
            for each in load_exported(path).predict(PICTURES[:1])
            if isinstance(each, Mapping)
        ]
    (found,) = load_exported(written(tmp_path / "m.safetensors", *members)).predict(
        PICTURES[:1]
    )
    assert isinstance(found, Mapping)
    sizes, chances = ([each[name] for each in predicted] for name in ("size", "large"))
    numbers = [each.value for each in sizes if isinstance(each, Number)]
    yes = [each.probability for each in chances if isinstance(each, Chance)]
    told_size, told_chance = found["size"], found["large"]
    assert isinstance(told_size, Number)
    assert isinstance(told_chance, Chance)
    assert told_size.value == pytest.approx(sum(numbers) / 2)
    assert told_chance.probability == pytest.approx(sum(yes) / 2)


def test_a_picture_that_cannot_be_read_is_told_and_the_others_are_predicted(
    tmp_path: Path, pair: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    first, bad, last = load_exported(pair).predict_readable(
        [PICTURES[0], tmp_path / "bad.png", PICTURES[1]]
    )
    assert [first, last] == load_exported(pair).predict(PICTURES[:2])
    assert not isinstance(bad, Prediction)


def test_the_card_of_several_tells_each_and_that_of_one_none(
    tmp_path: Path, pair: Path
) -> None:
    card = read_card(pair)
    assert [each.seed for each in card.members] == [1, 2]
    assert (card.seed, card.recipe, card.scores.test_accuracy) == (1, RECIPE, 0.5)
    model, own = member(3)
    export(tmp_path / "one.safetensors", model, card=own)
    single = read_card(tmp_path / "one.safetensors")
    assert (single.members, single.each()[0].seed) == ((), 3)
    assert "0/fc.bias" not in safetensors_files.read(tmp_path / "one.safetensors")[0]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(DATA, classes=("a", "c", "b")), "classes or targets"),
        (tiny_columns("regression"), "it is a regression"),
    ],
)
def test_models_that_mean_other_things_are_not_written_together(
    tmp_path: Path, other: TaskData, words: str
) -> None:
    with pytest.raises(MembersUnlike, match=f"model 2 .*{words}"):
        written(tmp_path / "m.safetensors", member(1), member(2, other))
    assert list(tmp_path.iterdir()) == []


def test_targets_of_other_names_are_not_written_together(tmp_path: Path) -> None:
    data = tiny_columns("regression")
    renamed = replace(data, targets=(replace(data.targets[0], name="weight"),))
    with pytest.raises(MembersUnlike, match="classes or targets"):
        written(tmp_path / "m.safetensors", member(1, data), member(2, renamed))


def test_a_file_whose_members_disagree_is_refused(tmp_path: Path, pair: Path) -> None:
    tensors, metadata = safetensors_files.read(pair)
    card = ModelCard.model_validate_json(metadata[CARD_KEY])
    _, other = member(2, tiny_columns("regression"))
    members = (card.members[0], other.each()[0])
    harmed = card.model_copy(update={"members": members})
    path = tmp_path / "harmed.safetensors"
    safetensors_files.write(path, tensors, {CARD_KEY: harmed.model_dump_json()})
    with pytest.raises(ModelUnreadable, match="do not have the same targets"):
        load_exported(path)


@pytest.mark.parametrize(
    ("lost", "added", "words"),
    [("1/fc.bias", "", "not those of glyphnet"), ("", "2/fc.bias", "of none of its 2 models")],
)
def test_a_file_with_a_tensor_too_few_or_too_many_is_refused(
    tmp_path: Path, pair: Path, lost: str, added: str, words: str
) -> None:
    tensors, metadata = safetensors_files.read(pair)
    tensors.pop(lost, None)
    if added:
        tensors[added] = torch.zeros(3)
    safetensors_files.write(tmp_path / "harmed.safetensors", tensors, metadata)
    with pytest.raises(ModelUnreadable, match=words):
        load_exported(tmp_path / "harmed.safetensors")


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, pair: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(pair.read_bytes()[:-100])
    with pytest.raises(ModelUnreadable, match=r"cut\.safetensors"):
        load_exported(tmp_path / "cut.safetensors")


def test_an_ensemble_teaches_its_average(pair: Path) -> None:
    pictures = torch.from_numpy(DATA.train.inputs)
    logits = Teacher(pair, ("c", "a", "b")).at_work(CPU, "auto")(pictures)
    with torch.no_grad(), autocast(CPU):
        theirs = [one.model(pictures).double() for one in load_exported(pair).members]
    expected = torch.stack([one.softmax(1) for one in theirs]).mean(0)[:, [2, 0, 1]]
    torch.testing.assert_close(logits.softmax(1), expected.float())


def test_no_training_begins_from_several_models(pair: Path) -> None:
    with pytest.raises(WeightsOfSeveral, match="holds 2 models"):
        backbones.build(
            Model(backbone="glyphnet", weights=str(pair)), classes=DATA.classes, seed=0
        )
