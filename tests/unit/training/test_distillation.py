"""Knowledge distillation: what a student learns of a teacher, and that it costs nothing where nobody teaches."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, memory_for, same_tensors, tiny_backbone
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import Split, TaskData
from worker.training import safetensors_files
from worker.training.device.placement import PlacedSplit, autocast
from worker.training.errors import ModelUnreadable, TeacherMissing, TeacherUnfit
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop.distillation import Lessons, Teacher, lessons_of
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.image_input import ImageInput

PICTURES = ImageInput((0.4,), (0.3,)).card()
DATA = tiny_data()
SHORT = Recipe(epochs=3, batch_size=8, learning_rate=1e-2)


def exported(folder: Path, classes: Sequence[str] = DATA.classes, epochs: int = 1) -> Path:
    """A model of `DATA`, or of its classes by other names."""
    data = replace(DATA, classes=tuple(classes))
    model = backbones.build(Model(backbone="glyphnet"), classes=classes, seed=0)
    *_, last = fit(
        TrainingRequest(model, data, Recipe(epochs=epochs, batch_size=4), seed=0, device=CPU)
    )
    card = make_card(
        model,
        data,
        recipe=Recipe(),
        seed=0,
        scores=Scores(validation_accuracy=last.value),
    )
    path = folder / "teacher.safetensors"
    export(path, model, card=card)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """One that knows its task."""
    # Half as many reach it too, but hold it by rounding alone.
    path = exported(tmp_path_factory.mktemp("teacher"), epochs=16)
    assert load_exported(path).card.scores.validation_accuracy == 1.0
    return Teacher(path, DATA.classes)


def student(
    recipe: Recipe, teacher: Teacher | None, data: TaskData = DATA, **how: Any
) -> tuple[Backbone, list[EpochResult]]:
    model = tiny_backbone(data)
    epochs = fit(
        TrainingRequest(model, data, recipe, seed=3, device=CPU, teacher=teacher, **how)
    )
    return model, list(epochs)


def curve(results: Sequence[EpochResult]) -> list[tuple[float, float]]:
    return [(each.train_loss, each.metrics["loss"]) for each in results]


def test_the_loss_is_that_of_the_paper() -> None:
    outputs, answers = torch.randn(5, 3), torch.randn(5, 3)
    lessons = Lessons(PlacedSplit(DATA.train, CPU), temperature=3.0, weight=0.25)
    soft = functional.softmax(answers / 3, dim=1)
    gain = soft * (soft.log() - functional.log_softmax(outputs / 3, dim=1))
    expected = 0.75 * 7.0 + 0.25 * 9 * gain.sum(dim=1).mean()
    assert torch.allclose(lessons.loss(torch.tensor(7.0), outputs, answers), expected)


def test_a_student_that_hears_its_teacher_alone_comes_to_answer_like_it(
    teacher: Teacher,
) -> None:
    recipe = SHORT.model_copy(update={"epochs": 60, "distillation_weight": 1.0})
    model, _ = student(recipe, teacher)
    pictures = torch.from_numpy(DATA.train.inputs)
    theirs = torch.softmax(teacher.at_work(CPU, "auto")(pictures), dim=1)
    ours = torch.softmax(model.eval()(pictures), dim=1)
    assert (ours - theirs).abs().mean() < 0.05


def test_a_teacher_makes_up_for_labels_that_are_few_or_wrong(teacher: Teacher) -> None:
    random = np.random.default_rng(0)
    wrong = Split(DATA.train.inputs, random.permutation(DATA.train.labels))
    misled = replace(DATA, train=wrong)
    recipe = SHORT.model_copy(update={"epochs": 40})
    alone = student(recipe, None, misled)[1][-1].value
    taught = student(recipe.model_copy(update={"distillation_weight": 1.0}), teacher, misled)[
        1
    ][-1].value
    assert taught == 1.0
    assert alone < 0.7


def test_a_teacher_is_asked_about_changed_pictures_as_the_student_sees_them(
    teacher: Teacher,
) -> None:
    recipe = SHORT.model_copy(update={"augmentation": "flip", "distillation_weight": 0.5})
    lessons = lessons_of(
        teacher, DATA, recipe, CPU, taken=PICTURES, cache=None, each_batch=lambda: None
    )
    assert lessons is not None
    pictures = torch.from_numpy(DATA.train.inputs)[:4]
    changed = pictures.flip(2)
    rows = torch.arange(4)
    assert torch.equal(lessons.of(rows, changed), teacher.at_work(CPU, "auto")(changed))
    plain = SHORT.model_copy(update={"distillation_weight": 0.5})
    once = lessons_of(
        teacher, DATA, plain, CPU, taken=PICTURES, cache=None, each_batch=lambda: None
    )
    assert once is not None
    torch.testing.assert_close(once.of(rows, changed), teacher.at_work(CPU, "auto")(pictures))


def test_a_teacher_is_asked_about_fewer_pictures_at_once_when_memory_is_short(
    teacher: Teacher,
) -> None:
    pictures = torch.from_numpy(DATA.train.inputs)
    whole = teacher.at_work(CPU, "auto")(pictures)
    with memory_for(6):
        answers = teacher.at_work(CPU, "auto")(pictures)
    torch.testing.assert_close(answers, whole, rtol=1e-2, atol=1e-2)


def test_answers_are_in_the_students_order_of_classes(tmp_path: Path) -> None:
    path = exported(tmp_path, classes=("c", "a", "b"))
    pictures = torch.from_numpy(DATA.train.inputs)
    answers = Teacher(path, ("a", "b", "c")).at_work(CPU, "auto")(pictures)
    with torch.no_grad(), autocast(CPU):
        theirs = load_exported(path).members[0].model(pictures)
    assert torch.allclose(answers, theirs[:, [1, 2, 0]].float(), atol=1e-5)


def test_a_teacher_sees_the_students_pictures_in_its_own_size(teacher: Teacher) -> None:
    large = tiny_data(side=16)
    answers = teacher.at_work(CPU, "auto")(torch.from_numpy(large.train.inputs))
    model = load_exported(teacher.path).members[0].model
    small = functional.interpolate(
        model.input(torch.from_numpy(large.train.inputs)),
        (8, 8),
        mode="bilinear",
        antialias=True,
    )
    with torch.no_grad(), autocast(CPU):
        assert torch.allclose(answers, model.network(small).float(), atol=1e-5)


@pytest.mark.parametrize("frozen_stages", [0, 1])
def test_nobody_is_asked_who_does_not_count(
    tmp_path: Path, teacher: Teacher, frozen_stages: int
) -> None:
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(teacher.path.read_bytes())
    absent = Teacher(path, DATA.classes)
    path.unlink()
    recipe = SHORT.model_copy(update={"frozen_stages": frozen_stages})
    without = curve(student(recipe, None)[1])
    silent = recipe.model_copy(update={"distillation_weight": 0.0})
    assert curve(student(silent, absent)[1]) == without
    unread = recipe.model_copy(
        update={"distillation_weight": 1.0, "distillation_temperature": 9.0}
    )
    assert curve(student(unread, None)[1]) == without
    assert curve(student(recipe, teacher)[1]) != without


@pytest.mark.parametrize("frozen_stages", [0, 1, 2])
def test_a_resumed_student_ends_with_the_weights_of_the_uninterrupted_one(
    teacher: Teacher, frozen_stages: int
) -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": frozen_stages})
    whole, results = student(recipe, teacher)
    state = next(
        fit(
            TrainingRequest(
                tiny_backbone(DATA), DATA, recipe, seed=3, device=CPU, teacher=teacher
            )
        )
    ).state()
    resumed, rest = student(recipe, teacher, resume=state)
    assert curve(rest) == curve(results)[1:]
    assert same_tensors(whole.state_dict(), resumed.state_dict())


def test_the_answers_of_one_training_serve_the_next(tmp_path: Path) -> None:
    path = exported(tmp_path)
    cache = FeatureCache(tmp_path / "features")
    known = replace(DATA, key="these pictures")
    one, other = Teacher(path, DATA.classes), Teacher(path, DATA.classes)
    first = curve(student(SHORT, one, known, features_cache=cache)[1])
    path.write_bytes(b"no longer readable")
    assert curve(student(SHORT, other, known, features_cache=cache)[1]) == first


def test_another_teacher_is_asked_anew(tmp_path: Path, teacher: Teacher) -> None:
    cache = FeatureCache(tmp_path / "features")
    known = replace(DATA, key="these pictures")
    heard = [
        lessons_of(
            each, known, Recipe(), CPU, taken=PICTURES, cache=cache, each_batch=lambda: None
        )
        for each in (teacher, Teacher(exported(tmp_path), DATA.classes))
    ]
    rows = torch.arange(4)
    one, other = (each.of(rows, torch.zeros(0)) for each in heard if each is not None)
    assert not torch.equal(one, other)


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path, classes=("a", "b", "x"))
    with pytest.raises(
        TeacherUnfit, match=r"it lacks: c; of its own the task lacks: x"
    ) as caught:
        Teacher(path, DATA.classes)
    assert caught.value.kind == "user_error"


def test_a_teacher_of_something_else_than_classes_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path)
    weights, metadata = safetensors_files.read(path)
    card = json.loads(metadata[CARD_KEY]) | {"kind": "multi_label"}
    other = tmp_path / "other.safetensors"
    safetensors_files.write(other, weights, {CARD_KEY: json.dumps(card)})
    with pytest.raises(TeacherUnfit, match="this is a multi_label"):
        Teacher(other, DATA.classes)


def test_a_file_that_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherMissing, match="no such model on this worker") as caught:
        Teacher(tmp_path / "nowhere.safetensors", DATA.classes)
    assert caught.value.kind == "data_missing"
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelUnreadable):
        Teacher(tmp_path / "broken.safetensors", DATA.classes)
