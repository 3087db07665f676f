"""The final evaluation: the sealed split, once, for the winner."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import linear_model

from tests.support.pictures import (
    folder_task,
    table_task,
    tiny_columns,
    write_classes,
    write_table,
)
from tests.support.tiny import CPU
from trimtab.contract.datasets import BuiltinDataset
from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Artifact, StudyTeacher
from worker import data
from worker.data import Seal, Split, TaskData
from worker.data.targets import Target
from worker.training.device import placement
from worker.training.device.placement import PlacedSplit
from worker.training.errors import CheckpointIncompatible
from worker.training.final import probe
from worker.training.final.evaluation import final_evaluation
from worker.training.final.probe import Features, chosen_probe
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.state import FitState
from worker.training.model import backbones, heads
from worker.training.model.export import load_exported, read_card
from worker.training.model.predictor import Chance, Number, Prediction
from worker.training.objective import objectives
from worker.training.objective.evaluate import evaluate
from worker.training.objective.objectives import Classification, Objective

DIGITS = Task(kind="classification", dataset=BuiltinDataset(kind="builtin", name="digits"))
RECIPE = Recipe(epochs=2, batch_size=64, learning_rate=3e-3)


def _winner(task: Task, model: Model, cache_dir: Path) -> FitState:
    seen = data.load(task, cache_dir=cache_dir)
    network = backbones.build(model, classes=seen.classes, seed=0)
    *_, last = fit(TrainingRequest(network, seen, RECIPE, seed=0, device=CPU))
    return last.state()


def test_the_digits_winner_is_tested_beside_what_it_began_with(tmp_path: Path) -> None:
    model = Model(backbone="glyphnet")
    state = _winner(DIGITS, model, tmp_path)
    path = tmp_path / "winner.safetensors"
    scores = final_evaluation(
        DIGITS,
        model,
        RECIPE,
        state,
        seal=Seal("final"),
        cache_dir=tmp_path,
        device=CPU,
        export_to=path,
    )
    assert scores.test_count == 359
    assert scores.validation["accuracy"] == state.progress.value
    # The pretrained head reads handwriting it has never seen; a probe does better, fine-tuning best.
    assert 0.8 < scores.before["accuracy"] < scores.linear_probe["accuracy"] < scores.value
    assert scores.value == scores.test["accuracy"] > 0.98

    exported = load_exported(path)
    sealed = PlacedSplit(data.open_test(DIGITS, Seal("final"), cache_dir=tmp_path), CPU)
    again = evaluate(exported.members[0].model, sealed, Classification("accuracy", "maximize"))
    assert again.metrics == scores.test
    assert exported.card.scores.test_accuracy == scores.value
    assert exported.card.scores.test_accuracy_before == scores.before["accuracy"]
    assert exported.card.scores.metrics == scores.by_name()
    assert exported.card.data_sha256 == data.load(DIGITS, cache_dir=tmp_path).sha256


def test_the_final_evaluation_repeats_bit_by_bit(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 12, "dog": 12}, mode="L")
    task, model = folder_task(tmp_path / "pets"), Model(backbone="glyphnet")
    state = _winner(task, model, tmp_path)
    one, other = (
        final_evaluation(
            task, model, RECIPE, state, seal=Seal("final"), cache_dir=tmp_path, device=CPU
        )
        for _ in range(2)
    )
    assert one == other
    assert one.test_count == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"frozen_stages": 9},
        {"frozen_stages": 2},
        {"frozen_stages": 1, "lora_rank": 2},
        {"micro_batch_size": 7},
        {"swa_epochs": 2},
    ],
)
def test_the_winner_is_measured_in_what_its_trial_computed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    def able(_: torch.device) -> bool:
        return True

    monkeypatch.setattr(placement, "computes_in_bfloat16", able)
    write_classes(tmp_path / "pets", {"cat": 30, "dog": 30}, mode="L")
    task, model = folder_task(tmp_path / "pets"), Model(backbone="glyphnet")
    recipe = RECIPE.model_copy(update=changes)
    seen = data.load(task, cache_dir=tmp_path)
    network = backbones.build(model, classes=seen.classes, seed=0)
    *_, last = fit(TrainingRequest(network, seen, recipe, seed=0, device=CPU))
    scores = final_evaluation(
        task,
        model,
        recipe,
        last.state(),
        seal=Seal("final"),
        cache_dir=tmp_path,
        device=CPU,
        export_to=tmp_path / "m.safetensors",
    )
    assert scores.validation == last.metrics
    # What is predicted of a picture is what was measured on it.
    pictures = [Image.fromarray(stored[..., 0]) for stored in seen.validation.inputs]
    predicted = load_exported(tmp_path / "m.safetensors").predict(pictures)
    losses = [
        -math.log(one.probabilities[seen.classes[label]])
        for one, label in zip(predicted, seen.validation.labels, strict=True)
        if isinstance(one, Prediction)
    ]
    assert sum(losses) / len(pictures) == pytest.approx(scores.validation["loss"], rel=1e-6)


def test_the_test_split_is_opened_last_and_not_where_leave_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_classes(tmp_path / "pets", {"cat": 6, "dog": 6}, mode="L")
    task, model = folder_task(tmp_path / "pets"), Model(backbone="glyphnet")
    state = _winner(task, model, tmp_path)
    loaded = _count_loads(monkeypatch)

    def refuse(seen: TaskData) -> None:
        assert seen.counts["test"] > 0
        raise PermissionError

    with pytest.raises(PermissionError):
        final_evaluation(
            task,
            model,
            RECIPE,
            state,
            seal=Seal("final"),
            cache_dir=tmp_path,
            device=CPU,
            before_opening=refuse,
        )
    assert loaded == ["load"]


def _count_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what opens the splits, as they are called."""
    called: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        verb = getattr(data, name)

        def call(*args: Any, **options: Any) -> Any:
            called.append(name)
            return verb(*args, **options)

        return call

    for name in ("load", "open_test"):
        monkeypatch.setattr(data, name, counted(name))
    return called


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_card_names_the_teacher_whose_answers_counted(
    tmp_path: Path, weight: float
) -> None:
    write_classes(tmp_path / "pets", {"cat": 6, "dog": 6}, mode="L")
    task, model = folder_task(tmp_path / "pets"), Model(backbone="glyphnet")
    large = StudyTeacher(kind="study", name="large", model=Artifact(sha256="0" * 64, bytes=1))
    final_evaluation(
        task,
        model,
        RECIPE.model_copy(update={"distillation_weight": weight}),
        _winner(task, model, tmp_path),
        seal=Seal("final"),
        cache_dir=tmp_path,
        device=CPU,
        export_to=tmp_path / "winner.safetensors",
        teacher=large,
    )
    told = read_card(tmp_path / "winner.safetensors").teacher
    assert told == (large if weight else None)


def test_before_training_a_head_that_knew_the_classes_answers_and_else_the_untrained_one(
    tmp_path: Path,
) -> None:
    state = _winner(DIGITS, Model(backbone="glyphnet", weights="none"), tmp_path)
    scores = {
        weights: final_evaluation(
            DIGITS,
            Model.model_validate({"backbone": "glyphnet", "weights": weights}),
            RECIPE,
            state,
            seal=Seal("final"),
            cache_dir=tmp_path,
            device=CPU,
        )
        for weights in ("default", "none")
    }
    assert scores["default"].before["accuracy"] > 0.8
    assert scores["none"].before["accuracy"] < 0.3
    assert scores["default"].test == scores["none"].test


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 6, "dog": 6}, mode="L")
    model = Model(backbone="glyphnet")
    state = _winner(folder_task(tmp_path / "pets"), model, tmp_path)
    with pytest.raises(CheckpointIncompatible, match="10 outputs"):
        final_evaluation(
            DIGITS, model, RECIPE, state, seal=Seal("final"), cache_dir=tmp_path, device=CPU
        )


def _measured(
    train: Features, validation: Features, test: Features, objective: Objective, outputs: int
) -> Mapping[str, float]:
    found = chosen_probe(train, validation, objective=objective, outputs=outputs)
    return objective.metrics(found.outputs(test), test.labels)


def _probe(train: Features, validation: Features, test: Features, outputs: int = 2) -> float:
    objective = Classification("accuracy", "maximize")
    return _measured(train, validation, test, objective, outputs)["accuracy"]


def test_a_linear_probe_separates_what_a_line_separates() -> None:
    random = np.random.default_rng(0)

    def part(count: int) -> Features:
        labels = torch.arange(count) % 3
        values = torch.from_numpy(random.normal(size=(count, 5))).float()
        values[:, 0] += 8 * labels
        return Features(values, labels)

    assert _probe(part(60), part(30), part(30), outputs=3) == 1.0


def test_a_linear_probe_of_numbers_is_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_STRENGTHS", (0.1,))
    random = np.random.default_rng(0)
    values = torch.from_numpy(random.normal(size=(60, 4))).float()
    values = (values - values.mean(0)) / values.std(0, correction=0)
    sizes = (
        values @ torch.tensor([1.0, -2.0, 0.5, 0.0])
        + torch.from_numpy(random.normal(size=60)).float()
    )
    target = Target(
        "size", "regression", mean=sizes.mean().item(), std=sizes.std(correction=0).item()
    )
    part = Features(values, sizes.unsqueeze(1))
    data = tiny_columns("regression")
    train = Split(data.train.inputs, part.labels[: len(data.train)].numpy())
    data = replace(data, train=train, targets=(target,))
    measured = _measured(part, part, part, objectives.of(data, Recipe()), 1)
    # Half the squared weights times the penalty beside the mean squared error: n / 2 times as much beside the sum.
    ridge = cast(Any, linear_model).Ridge(alpha=0.1 * len(sizes) / 2)
    ridge.fit(values.numpy(), ((sizes - target.mean) / target.std).numpy())
    errors = ridge.predict(values.numpy()) * target.std + target.mean - sizes.numpy()
    assert measured["rmse"] == pytest.approx(float(np.sqrt((errors**2).mean())), rel=1e-3)


def test_a_linear_probe_of_numbers_chooses_the_penalty_of_the_least_error() -> None:
    data = tiny_columns("regression")
    labels = torch.from_numpy(np.nan_to_num(data.train.labels, nan=200.0))
    part = Features(((labels - 200) / 10).float(), labels)
    measured = _measured(part, part, part, objectives.of(data, Recipe()), 1)
    assert measured["rmse"] < 0.1


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("regression", ["size"]),
        ("multi_label", ["large", "small"]),
        (
            "multi_task",
            [
                {"column": "size", "kind": "regression"},
                {"column": "pet", "kind": "classification"},
            ],
        ),
    ],
)
def test_every_kind_of_winner_is_tested_beside_what_it_began_with_and_predicts(
    tmp_path: Path, kind: TaskKind, targets: list[Any]
) -> None:
    rows = [f"{n}.png,{n},{n % 2},{1 - n % 2},{'ab'[n % 2]}" for n in range(30)]
    table = write_table(tmp_path, ["image,size,large,small,pet", *rows], pictures=30)
    task, model = table_task(table, kind, targets), Model(backbone="glyphnet")
    seen = data.load(task, cache_dir=tmp_path / "cache")
    recipe = RECIPE.model_copy(update={"head": "mlp", "head_width": 8})
    network = backbones.build(model, classes=seen.outputs, seed=0, head=heads.of(recipe, kind))
    *_, last = fit(TrainingRequest(network, seen, recipe, seed=0, device=CPU))
    path = tmp_path / "winner.safetensors"
    scores = final_evaluation(
        task,
        model,
        recipe,
        last.state(),
        seal=Seal("final"),
        cache_dir=tmp_path / "cache",
        device=CPU,
        export_to=path,
    )
    measured = (scores.test, scores.before, scores.linear_probe, scores.validation)
    assert all(task.metric in one for one in measured)
    assert scores.validation[task.metric] == last.value
    assert scores.by_name()[f"test_{task.metric}"] == scores.value
    predictor = load_exported(path)
    assert predictor.card.scores.objective == task.metric
    (predicted,) = predictor.predict([tmp_path / "3.png"])
    assert isinstance(predicted, Mapping)
    assert list(predicted) == [target.name for target in seen.targets]
    picture = np.asarray(Image.open(tmp_path / "3.png"))[np.newaxis, :, :, np.newaxis]
    with torch.inference_mode(), placement.autocast(CPU):
        outputs = network.eval()(torch.from_numpy(picture.copy()))[0].double()
    if kind == "multi_label":
        assert predicted["large"] == Chance(outputs[0].sigmoid().item())
    else:
        size = seen.targets[0]
        assert predicted["size"] == Number(outputs[0].item() * size.std + size.mean)
    if kind == "multi_task":
        chosen = cast(Prediction, predicted["pet"])
        assert chosen.class_name == "ab"[int(outputs[1:].argmax())]


def test_a_linear_probe_chooses_its_penalty_on_the_validation_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So strong a penalty leaves the bias alone, which answers the commonest class; the weak one separates.
    monkeypatch.setattr(probe, "_STRENGTHS", (10.0, 1e-4))

    def part(labels: list[int]) -> Features:
        return Features(torch.tensor(labels).float().unsqueeze(1) * 2, torch.tensor(labels))

    train, test = part([0] * 7 + [1] * 3), part([0, 1, 1, 1])
    assert _probe(train, part([0, 1]), test) == 1.0
    assert _probe(train, part([0, 0]), test) == 0.25


def test_a_constant_feature_does_no_harm() -> None:
    labels = torch.arange(20) % 2
    values = torch.stack([labels.float(), torch.full((20,), 7.0)], dim=1)
    part = Features(values, labels)
    assert _probe(part, part, part) == 1.0
