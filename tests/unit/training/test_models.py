"""Finalists that began with different pretrained models: each is evaluated with its own, and one file holds both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.pictures import folder_task, tiny_data, write_classes
from tests.support.tiny import CPU
from tests.unit.training.test_ensemble_files import written
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import Seal, TaskData
from worker.training import safetensors_files
from worker.training.final import handover
from worker.training.final.candidates import Finalist
from worker.training.final.choice import Choice, Measured
from worker.training.final.evaluator import Evaluator
from worker.training.final.handover import Files, hand_over
from worker.training.loop.distillation import Teacher
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.averaging import average
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, ModelCard, Scores
from worker.training.model.export import load_exported, make_card

SMALL = Model(backbone="glyphnet", weights="none")
DEEP = Model(backbone="cifar_resnet20", weights="none")
RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=3e-3)


def member(model: Model, seed: int, data: TaskData) -> tuple[Backbone, ModelCard]:
    network = backbones.build(model, classes=data.outputs, seed=seed)
    card = make_card(network, data, recipe=RECIPE, seed=seed, scores=Scores(), pretrained=model)
    return network, card


@pytest.fixture
def both(tmp_path: Path) -> Path:
    data = tiny_data()
    return written(tmp_path / "both.safetensors", member(SMALL, 1, data), member(DEEP, 2, data))


def test_one_file_holds_models_of_different_backbones_and_answers_by_their_average(
    both: Path,
) -> None:
    predictor = load_exported(both)
    assert [one.card.backbone for one in predictor.members] == [
        "glyphnet",
        "cifar_resnet20",
    ]
    assert [one.card.pretrained for one in predictor.members] == [SMALL, DEEP]
    batch = tiny_data().validation.inputs.astype(np.uint8)
    each = [one.outputs(batch) for one in predictor.members]
    assert not torch.equal(*each)
    assert torch.equal(predictor.combine(each), average(each, [(), ()]))


def test_it_teaches_like_any_other_model(both: Path) -> None:
    data = tiny_data()
    answers = Teacher(both, data.classes).at_work(CPU, "float32")
    batch = torch.from_numpy(data.validation.inputs)
    each = [one.model(batch) for one in load_exported(both).members]
    assert torch.allclose(answers(batch), average(each, [(), ()]).float(), atol=1e-5)


def test_members_in_files_of_before_have_the_backbone_of_the_card(tmp_path: Path) -> None:
    data = tiny_data()
    path = written(tmp_path / "m.safetensors", member(SMALL, 1, data), member(SMALL, 2, data))
    tensors, metadata = safetensors_files.read(path)
    card = ModelCard.model_validate_json(metadata[CARD_KEY])
    former = [
        one.model_copy(update={"backbone": None, "pretrained": None}) for one in card.members
    ]
    told = card.model_copy(update={"members": tuple(former)})
    told_json = told.model_dump_json(
        exclude={"members": {"__all__": {"backbone", "pretrained"}}}
    )
    safetensors_files.write(tmp_path / "former.safetensors", tensors, {CARD_KEY: told_json})
    pictures = [Image.fromarray(stored[..., 0]) for stored in data.validation.inputs]
    former_file = load_exported(tmp_path / "former.safetensors")
    assert former_file.predict(pictures) == load_exported(path).predict(pictures)


def finalists(evaluator: Evaluator, models: Sequence[Model]) -> list[Finalist]:
    found: list[Finalist] = []
    for number, model in enumerate(models):
        seen = evaluator.of(model).load(RECIPE)
        network = backbones.build(model, classes=seen.classes, seed=number)
        request = TrainingRequest(network, seen, RECIPE, seed=number, device=CPU)
        *_, last = fit(request)
        state = last.state()
        found.append(Finalist(number, RECIPE, lambda state=state: state, model=model))
    return found


@pytest.mark.parametrize("kind", ["winner", "ensemble", "linear_probe"])
def test_what_is_handed_over_is_built_of_the_models_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def chosen(*_: object, **__: object) -> Choice:
        return Choice(Measured(kind, 0.5), "It was told to.")  # pyright: ignore[reportArgumentType] - one of the kinds

    monkeypatch.setattr(handover, "choose", chosen)
    write_classes(tmp_path / "letters", {"a": 20, "b": 20, "c": 20}, mode="L")
    # The evaluator's own model is another than the winner's: what counts is the trial's.
    evaluator = Evaluator(folder_task(tmp_path / "letters"), SMALL, tmp_path / "cache", CPU)
    made = hand_over(
        evaluator,
        finalists(evaluator, [DEEP, SMALL]),
        seal=Seal("final"),
        files=Files(tmp_path / "model"),
    )
    predictor = load_exported(tmp_path / "model")
    backbones_of = [one.card.backbone for one in predictor.members]
    assert backbones_of == ["cifar_resnet20", "glyphnet"][: 2 if kind == "ensemble" else 1]
    assert predictor.card.pretrained == DEEP
    split = evaluator.of(DEEP).open_test(RECIPE, Seal("final"))
    pictures = [Image.fromarray(stored[..., 0]) for stored in split.inputs]
    names = "abc"
    right = [
        getattr(one, "class_name", None) == names[int(label)]
        for one, label in zip(predictor.predict(pictures), split.labels, strict=True)
    ]
    if len({one.encoder.key for one in predictor.members}) == 1:
        assert sum(right) / len(right) == made.scores.value
