"""Accuracy and loss of a split."""

import pytest
import torch
from torch.nn import functional

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from worker.training.device.placement import PlacedSplit, autocast
from worker.training.objective.evaluate import evaluate
from worker.training.objective.objectives import Classification

ACCURACY = Classification("accuracy", "maximize")


def test_scores_are_those_of_the_whole_split_at_once_whatever_the_batches() -> None:
    data = tiny_data(train=300, validation=601)
    model = tiny_backbone(data)
    scores = evaluate(model, PlacedSplit(data.validation, CPU), ACCURACY)
    labels = torch.from_numpy(data.validation.labels)
    with torch.no_grad(), autocast(CPU):
        logits = model.eval()(torch.from_numpy(data.validation.inputs)).float()
    assert scores.count == 601
    assert scores.metrics["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert scores.loss == pytest.approx(
        functional.cross_entropy(logits, labels).item(), rel=1e-4
    )


def test_scoring_is_in_evaluation_mode_and_moves_nothing() -> None:
    data = tiny_data()
    model = tiny_backbone(data)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    split = PlacedSplit(data.validation, CPU)
    assert evaluate(model.train(), split, ACCURACY) == evaluate(model.train(), split, ACCURACY)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
