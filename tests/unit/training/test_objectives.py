"""Losses against torch and formulas, metrics against scikit-learn, for every kind of task."""

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from sklearn import metrics as sklearn_metrics
from sklearn.utils import class_weight
from torch import Tensor
from torch.nn import functional

from tests.support.pictures import TARGETS, tiny_columns, tiny_data
from trimtab.contract.metrics import METRICS, TARGET_METRICS, TaskKind
from trimtab.contract.recipe import Recipe
from worker.data import Split, TaskData
from worker.training.objective import metrics, objectives
from worker.training.objective.objectives import Classification, Objective

scikit = cast(Any, sklearn_metrics)
stats = cast(Any, scipy_stats)
PLAIN = Recipe()


def _outputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _objective(data: TaskData, **recipe: object) -> Objective:
    return objectives.of(data, Recipe.model_validate(recipe))


def _labels(data: TaskData) -> Tensor:
    return torch.from_numpy(data.train.labels)


def _known(data: TaskData, position: int, outputs: Tensor) -> tuple[Tensor, Tensor]:
    column = _labels(data)[:, position]
    known = ~column.isnan()
    return outputs[known], column[known]


def test_classes_are_learned_by_cross_entropy_to_the_last_bit() -> None:
    data, outputs = tiny_data(), _outputs(22, 3)
    loss = _objective(data).loss(outputs, _labels(data))
    assert torch.equal(loss, functional.cross_entropy(outputs, _labels(data)))


def test_smoothed_labels_are_torchs() -> None:
    data, outputs = tiny_data(), _outputs(22, 3)
    loss = _objective(data, label_smoothing=0.2).loss(outputs, _labels(data))
    expected = functional.cross_entropy(outputs, _labels(data), label_smoothing=0.2)
    assert torch.equal(loss, expected)


def test_balanced_classes_weigh_as_scikit_learn_says() -> None:
    labels = np.array([0] * 12 + [1] * 6 + [2] * 4)
    data = replace(tiny_data(), train=Split(tiny_data().train.inputs, labels))
    weights = cast(Any, class_weight).compute_class_weight(
        "balanced", classes=np.arange(3), y=labels
    )
    outputs = _outputs(22, 3)
    loss = _objective(data, class_weights="balanced").loss(outputs, _labels(data))
    # Over the whole training split the weights add up to its pictures, so that torch's mean is the same.
    expected = functional.cross_entropy(outputs.double(), _labels(data), torch.tensor(weights))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_numbers_are_learned_in_deviations_from_the_training_mean() -> None:
    data, outputs = tiny_columns("regression"), _outputs(22, 1)
    predicted, labels = _known(data, 0, outputs)
    expected = functional.mse_loss(predicted[:, 0], (labels - 200) / 10)
    assert _objective(data).loss(outputs, _labels(data)).item() == pytest.approx(
        expected.item()
    )


def test_hubers_loss_counts_its_delta_in_deviations() -> None:
    data, outputs = tiny_columns("regression"), _outputs(22, 1)
    predicted, labels = _known(data, 0, outputs)
    normalised = (labels - 200) / 10
    expected = functional.huber_loss(predicted[:, 0], normalised, delta=0.3)
    objective = _objective(data, regression_loss="huber", huber_delta=0.3)
    assert objective.loss(outputs, _labels(data)).item() == pytest.approx(expected.item())


def _binary(outputs: Tensor, labels: Tensor) -> float:
    return functional.binary_cross_entropy_with_logits(outputs, labels).item()


def test_several_labels_are_learned_by_the_weighted_mean_of_their_cross_entropies() -> None:
    data, outputs = tiny_columns("multi_label"), _outputs(22, 2)
    large, small = (_binary(*_known(data, n, outputs[:, n])) for n in range(2))
    loss = _objective(data).loss(outputs, _labels(data))
    assert loss.item() == pytest.approx((large + 3 * small) / 4)


def test_yes_and_no_are_smoothed_and_balanced_like_two_classes() -> None:
    data = tiny_columns("multi_label")
    data = replace(
        data, targets=data.targets[:1], train=Split(data.train.inputs, data.train.labels[:, :1])
    )
    outputs = _outputs(22, 1)
    logits, labels = _known(data, 0, outputs[:, 0])
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    smoothed = functional.cross_entropy(two, labels.long(), label_smoothing=0.2)
    loss = _objective(data, label_smoothing=0.2).loss(outputs, _labels(data))
    assert loss.item() == pytest.approx(smoothed.item())
    counts = torch.bincount(labels.long())
    weights = len(labels) / (2 * counts)
    balanced = functional.cross_entropy(two, labels.long(), weights)
    loss = _objective(data, class_weights="balanced").loss(outputs, _labels(data))
    assert loss.item() == pytest.approx(balanced.item())


def test_the_joint_loss_is_the_weighted_sum_over_targets_each_on_its_own_outputs() -> None:
    data, outputs = tiny_columns("multi_task"), _outputs(22, 5)
    species, classes = _known(data, 0, outputs[:, :3])
    size, numbers = _known(data, 1, outputs[:, 3])
    expected = (
        2 * functional.cross_entropy(species, classes.long()).item()
        + functional.mse_loss(size, (numbers - 200) / 10).item()
        + _binary(*_known(data, 2, outputs[:, 4]))
    )
    assert _objective(data).loss(outputs, _labels(data)).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_label_that_is_not_known_moves_nothing(kind: TaskKind) -> None:
    data = tiny_columns(kind)
    outputs = _outputs(22, len(data.outputs)).requires_grad_()
    labels = _labels(data).clone()
    labels[5] = math.nan
    _objective(data, class_weights="balanced").loss(outputs, labels).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert not outputs.grad[5].any()
    assert outputs.grad[6].any()
    nothing = _objective(data).loss(outputs, torch.full_like(labels, math.nan))
    assert nothing.item() == 0


@pytest.mark.parametrize("kind", TARGETS)
def test_the_losses_of_a_batchs_portions_add_up_to_its_own(kind: TaskKind) -> None:
    data = tiny_columns(kind)
    outputs, labels = _outputs(22, len(data.outputs)), _labels(data)
    objective = _objective(data, class_weights="balanced")
    parts = [
        objective.loss(outputs[rows], labels[rows]) * len(labels[rows]) / 22
        for rows in (slice(0, 5), slice(5, 22))
    ]
    assert torch.stack(parts).sum().item() == pytest.approx(
        objective.loss(outputs, labels).item()
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_a_measured_loss_is_the_same_under_every_recipe(kind: TaskKind) -> None:
    data = tiny_columns(kind)
    outputs = _outputs(22, len(data.outputs))
    other = _objective(
        data, label_smoothing=0.5, class_weights="balanced", regression_loss="huber"
    )
    plain = _objective(data)
    measured = plain.metrics(outputs, _labels(data))
    assert other.metrics(outputs, _labels(data)) == measured
    assert measured["loss"] == pytest.approx(
        plain.loss(outputs, _labels(data)).item(), rel=1e-5
    )
    assert other.loss(outputs, _labels(data)).item() != pytest.approx(
        measured["loss"], rel=1e-3
    )


def test_the_metrics_of_classes_are_scikit_learns() -> None:
    data, outputs = tiny_data(), _outputs(22, 3)
    labels = data.train.labels
    measured = Classification("auroc", "maximize").metrics(outputs, _labels(data))
    guessed = outputs.argmax(1).numpy()
    scores = outputs.double().softmax(1).numpy()
    assert measured == pytest.approx(
        {
            "accuracy": (guessed == labels).mean(),
            "loss": scikit.log_loss(labels, scores),
            "balanced_accuracy": scikit.balanced_accuracy_score(labels, guessed),
            "f1_macro": scikit.f1_score(labels, guessed, average="macro"),
            "auroc": scikit.roc_auc_score(labels, scores, multi_class="ovr"),
        }
    )
    assert tuple(sorted(measured)) == tuple(sorted(METRICS["classification"]))


def test_classes_without_a_picture_do_not_count() -> None:
    outputs, labels = _outputs(22, 5), torch.arange(22) % 3
    measured = Classification("auroc", "maximize").metrics(outputs, labels)
    guessed = outputs.argmax(1)
    recall = [(guessed[labels == one] == one).double().mean().item() for one in range(3)]
    assert measured["balanced_accuracy"] == pytest.approx(sum(recall) / 3)
    alike = Classification("auroc", "maximize").metrics(outputs, torch.zeros(22).long())
    assert "auroc" not in alike


def test_where_accuracy_is_compared_by_nothing_is_asked_of_torchmetrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(metrics, "of_classes")
    measured = Classification("accuracy", "maximize").metrics(torch.eye(3), torch.arange(3))
    assert measured["accuracy"] == 1
    assert set(measured) == {"accuracy", "loss"}


def test_the_metrics_of_numbers_are_scikit_learns_in_the_targets_own_unit() -> None:
    data, outputs = tiny_columns("regression"), _outputs(22, 1)
    predicted, labels = _known(data, 0, outputs[:, 0].double() * 10 + 200)
    measured = _objective(data).metrics(outputs, _labels(data))
    assert measured == pytest.approx(
        {
            "rmse": scikit.root_mean_squared_error(labels, predicted),
            "mae": scikit.mean_absolute_error(labels, predicted),
            "r2": scikit.r2_score(labels, predicted),
            "pearson": stats.pearsonr(predicted, labels).statistic,
            "spearman": stats.spearmanr(predicted, labels).statistic,
            "loss": scikit.mean_squared_error(labels, predicted) / 100,
        }
    )
    assert tuple(measured) == ("loss", *METRICS["regression"][:-1])
    alike = _objective(data).metrics(outputs, torch.full((22, 1), 200.0))
    assert tuple(alike) == ("loss", "rmse", "mae")


def test_ranks_of_equal_numbers_are_shared_and_what_is_all_alike_correlates_with_nothing() -> (
    None
):
    predicted = torch.tensor([1.0, 1.0, 2.0, 4.0, 4.0, 4.0, 3.0]).double()
    labels = torch.tensor([1.0, 2.0, 2.0, 5.0, 2.0, 5.0, -9.0]).double()
    measured = metrics.of_numbers(predicted, labels)
    assert measured["spearman"] == pytest.approx(stats.spearmanr(predicted, labels).statistic)
    constant = metrics.of_numbers(torch.full((7,), 3.0).double(), labels)
    assert (constant["pearson"], constant["spearman"]) == (0, 0)


def test_the_metrics_of_several_labels_are_the_means_of_scikit_learns() -> None:
    data, outputs = tiny_columns("multi_label"), _outputs(22, 2)
    columns = [_known(data, n, outputs[:, n].double().sigmoid()) for n in range(2)]
    measured = dict(_objective(data).metrics(outputs, _labels(data)))
    labels = data.train.labels
    right = ((outputs.numpy() > 0) == (labels > 0)) | np.isnan(labels)
    assert measured.pop("loss") > 0
    assert measured == pytest.approx(
        {
            "average_precision": np.mean(
                [scikit.average_precision_score(known, p) for p, known in columns]
            ),
            "f1_macro": np.mean([scikit.f1_score(known, p > 0.5) for p, known in columns]),
            "auroc": np.mean([scikit.roc_auc_score(known, p) for p, known in columns]),
            "exact_match": right.all(axis=1).mean(),
        }
    )


def test_a_label_that_is_everywhere_alike_is_left_out_of_the_means() -> None:
    data, outputs = tiny_columns("multi_label"), _outputs(22, 2)
    labels = _labels(data).clone()
    labels[:, 1] = 0
    known = ~labels[:, 0].isnan()
    alone = scikit.roc_auc_score(labels[known, 0], outputs[known, 0])
    assert _objective(data).metrics(outputs, labels)["auroc"] == pytest.approx(alone)


def test_each_of_several_targets_has_its_metrics_under_its_name() -> None:
    data, outputs = tiny_columns("multi_task"), _outputs(22, 5)
    measured = _objective(data).metrics(outputs, _labels(data))
    expected = {
        f"{target.name}.{metric}"
        for target in data.targets
        for metric in TARGET_METRICS[target.kind]
    }
    assert set(measured) == {"loss", *expected}
    right = [
        p.argmax(0) == label for p, label in zip(*_known(data, 0, outputs[:, :3]), strict=True)
    ]
    assert measured["species.accuracy"] == pytest.approx(np.mean(right))
    sizes, numbers = _known(data, 1, outputs[:, 3].double() * 10 + 200)
    assert measured["size.mae"] == pytest.approx(scikit.mean_absolute_error(numbers, sizes))
    yes, large = _known(data, 2, outputs[:, 4])
    assert measured["large.accuracy"] == pytest.approx(
        ((yes > 0) == (large > 0)).double().mean()
    )
    total = 2 * measured["species.loss"] + measured["size.loss"] + measured["large.loss"]
    assert measured["loss"] == pytest.approx(total)


@pytest.mark.parametrize(
    ("scale", "middle"), [(1e-4, 0.0), (1e-9, 3.0), (1e9, 0.0), (10, 1.7e9)]
)
def test_r2_is_the_share_of_the_variance_whatever_the_unit(scale: float, middle: float) -> None:
    labels = (
        middle + scale * torch.randn(50, generator=torch.Generator().manual_seed(1)).double()
    )
    useless = metrics.of_numbers(labels.mean().expand(50), labels)
    close = metrics.of_numbers(labels + 0.01 * scale, labels)
    assert useless["r2"] == pytest.approx(0, abs=1e-6)
    assert close["r2"] == pytest.approx(scikit.r2_score(labels, labels + 0.01 * scale))
    assert 0.999 < close["r2"] < 1
    assert (close["pearson"], close["spearman"]) == pytest.approx((1, 1), abs=1e-6)
    turned = metrics.of_numbers(-labels, labels)
    assert (turned["pearson"], turned["spearman"]) == pytest.approx((-1, -1), abs=1e-6)


def test_large_numbers_that_differ_by_little_are_learned_and_measured_apart() -> None:
    numbers = 1_700_000_000 + np.arange(22.0)[:, np.newaxis]
    data = tiny_columns("regression")
    target = replace(data.targets[0], mean=numbers.mean(), std=numbers.std())
    data = replace(data, targets=(target,), train=Split(data.train.inputs, numbers))
    outputs = torch.from_numpy((numbers - numbers.mean()) / numbers.std()).float()
    objective = _objective(data)
    assert objective.loss(outputs, _labels(data)).item() == pytest.approx(0, abs=1e-12)
    late = objective.loss(outputs + 1, _labels(data))
    assert late.item() == pytest.approx(1, rel=1e-6)
    measured = objective.metrics(outputs, _labels(data))
    assert (measured["rmse"], measured["r2"]) == pytest.approx((0, 1), abs=1e-5)


def test_a_confident_networks_answers_are_ranked_by_its_logits() -> None:
    logits, labels = torch.arange(40.0, 62.0), _labels(tiny_data()) % 2
    assert logits.double().sigmoid().unique().numel() == 1
    measured = metrics.of_binary(logits, labels)
    assert measured["auroc"] == pytest.approx(scikit.roc_auc_score(labels, logits))
    assert measured["average_precision"] == pytest.approx(
        scikit.average_precision_score(labels, logits)
    )
    assert measured["f1"] == pytest.approx(scikit.f1_score(labels, [1] * 22))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_confident_networks_classes_are_ranked_by_their_odds_against_the_rest(
    classes: int,
) -> None:
    logits, labels = 400 * _outputs(60, classes).double(), torch.arange(60) % classes
    odds = [
        column - logits[:, [other for other in range(classes) if other != one]].logsumexp(1)
        for one, column in enumerate(logits.T)
    ]
    expected = [scikit.roc_auc_score(labels == one, each) for one, each in enumerate(odds)]
    measured = metrics.of_classes(logits, labels)
    assert measured["auroc"] == pytest.approx(np.mean(expected))
    by_probability = scikit.roc_auc_score(labels == 0, logits.softmax(1)[:, 0])
    assert by_probability != pytest.approx(expected[0], rel=1e-3)


def test_f1_leaves_out_a_class_that_is_neither_there_nor_guessed() -> None:
    logits = functional.one_hot(torch.tensor([0, 0, 1, 1, 3]), 5).float()
    labels = torch.tensor([0, 1, 1, 1, 0])
    expected = scikit.f1_score(labels, logits.argmax(1), average="macro")
    assert metrics.of_classes(logits, labels)["f1_macro"] == pytest.approx(expected)


@pytest.mark.parametrize("kind", list(METRICS))
def test_one_metric_alone_is_what_it_is_among_all(kind: TaskKind) -> None:
    names = list(METRICS[kind])
    if kind == "multi_task":
        names += [
            f"{target.name}.{name}"
            for target in TARGETS[kind]
            for name in TARGET_METRICS[target.kind]
        ]
    for name in names:
        data = (
            replace(tiny_data(), metric=name)
            if kind == "classification"
            else tiny_columns(kind, metric=name)
        )
        objective, outputs = _objective(data), _outputs(22, len(data.outputs))
        measured = objective.metrics(outputs, _labels(data))
        assert objective.value(outputs, _labels(data)) == measured[name]


def test_hits_are_the_rows_of_which_the_metric_is_the_share() -> None:
    for data in (
        tiny_data(),
        tiny_columns("multi_label", metric="exact_match"),
        tiny_columns("multi_task", metric="species.accuracy"),
        tiny_columns("multi_task", metric="large.accuracy"),
    ):
        objective, outputs = _objective(data), _outputs(22, len(data.outputs))
        hits = objective.hits(outputs, _labels(data))
        assert hits is not None
        assert hits.nanmean().item() == objective.value(outputs, _labels(data))
    assert _objective(tiny_columns("regression")).hits(_outputs(22, 1), _outputs(22, 1)) is None
