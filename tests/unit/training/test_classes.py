"""Scores by class, and what is confused with what: against counts made by hand and scikit-learn's."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from sklearn import metrics
from torch.nn import functional

from tests.support.pictures import tiny_columns, tiny_data
from trimtab.contract.final_report import ClassScores, Confusion
from worker.training.final import classes

SEEN = replace(tiny_data(), classes=("cat", "dog", "owl"))
LABELS = torch.tensor([0, 0, 0, 0, 1, 1])
TOLD = torch.tensor([0, 1, 1, 0, 1, 0])
OUTPUTS = functional.one_hot(TOLD, 3).float()


def test_each_class_has_its_recall_its_precision_and_its_count() -> None:
    assert classes.scores_of(SEEN, OUTPUTS, LABELS) == (
        ClassScores(name="cat", count=4, recall=0.5, precision=2 / 3),
        ClassScores(name="dog", count=2, recall=0.5, precision=1 / 3),
        ClassScores(name="owl", count=0, recall=None, precision=None),
    )


def test_pairs_are_told_that_occur_the_most_frequent_first() -> None:
    assert classes.confusion_of(SEEN, OUTPUTS, LABELS) == (
        Confusion(is_class="cat", told_as="dog", count=2),
        Confusion(is_class="dog", told_as="cat", count=1),
    )


def test_the_scores_are_scikit_learns() -> None:
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (200,), generator=chance)
    outputs = torch.randn(200, 3, generator=chance)
    told = outputs.argmax(dim=1)
    precision, recall, _, count = cast(Any, metrics).precision_recall_fscore_support(
        labels.numpy(), told.numpy()
    )
    found = classes.scores_of(SEEN, outputs, labels)
    assert [one.recall for one in found] == pytest.approx(list(recall))
    assert [one.precision for one in found] == pytest.approx(list(precision))
    assert [one.count for one in found] == list(count)


def test_of_many_classes_the_worst_hundred_are_told_in_their_order() -> None:
    names = tuple(f"class {number}" for number in range(150))
    labels = torch.arange(150)
    told = labels.clone()
    told[120:] = 0
    outputs = functional.one_hot(told, 150).float()
    found = classes.scores_of(replace(SEEN, classes=names), outputs, labels)
    assert [one.name for one in found] == [*names[:70], *names[120:]]
    # Every class but two is taken for another one.
    confused = classes.confusion_of(
        replace(SEEN, classes=names),
        functional.one_hot((labels // 2) * 2 + 1 - labels % 2, 150).float(),
        labels,
    )
    assert len(confused) == 100


def test_yes_and_no_are_the_classes_of_a_label_and_unknown_labels_do_not_count() -> None:
    labels = torch.tensor([[1, 0], [1, torch.nan], [0, torch.nan]]).double()
    outputs = torch.tensor([[2.0, 3], [-1, 1], [-1, 1]])
    seen = tiny_columns("multi_label")
    assert classes.scores_of(seen, outputs, labels) == (
        ClassScores(name="no", target="large", count=1, recall=1, precision=0.5),
        ClassScores(name="yes", target="large", count=2, recall=0.5, precision=1),
        ClassScores(name="no", target="small", count=1, recall=0, precision=None),
        ClassScores(name="yes", target="small", count=0, recall=None, precision=0),
    )
    assert classes.confusion_of(seen, outputs, labels) == (
        Confusion(target="large", is_class="yes", told_as="no", count=1),
        Confusion(target="small", is_class="no", told_as="yes", count=1),
    )


def test_each_target_has_its_own_outputs_and_numbers_have_no_classes() -> None:
    seen = tiny_columns("multi_task")
    labels = torch.tensor([[2, 200, 1]]).double()
    outputs = torch.tensor([[0.0, 0, 5, -9, 1]])
    told = {
        (one.target, one.name): one.recall for one in classes.scores_of(seen, outputs, labels)
    }
    assert {target for target, _ in told} == {"species", "large"}
    assert [told["species", seen.targets[0].classes[2]], told["large", "yes"]] == [1, 1]
    assert classes.scores_of(tiny_columns("regression"), outputs[:, :1], labels[:, :1]) == ()
