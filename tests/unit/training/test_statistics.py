"""What a data set looks like to a pretrained backbone, in a few numbers."""

import math
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from worker.data import TaskData
from worker.training.features.statistics import KnownStatistics, projected
from worker.training.model.backbones import Backbone
from worker.training.model.published_weights import WeightsReport

DATA = tiny_data()


def pretrained(data: TaskData = DATA) -> Backbone:
    model = tiny_backbone(data)
    model.report = WeightsReport("w.pth")
    return model


def inverted(data: TaskData) -> TaskData:
    return replace(data, train=replace(data.train, inputs=255 - data.train.inputs), sha256="i")


def test_distances_of_the_projection_are_nearly_those_of_the_features() -> None:
    one, two = torch.randn(
        2, 400, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    two += torch.linspace(-1, 1, 64)
    apart = torch.cat([one.mean(0), one.std(0, correction=0)])
    apart -= torch.cat([two.mean(0), two.std(0, correction=0)])
    few = [projected(each) or () for each in (one, two)]
    assert [len(each) for each in few] == [16, 16]
    # With 16 numbers the distance has an error of about a fifth.
    assert math.dist(*few) == pytest.approx(apart.square().sum().sqrt().item(), rel=0.4)


def test_other_pictures_have_other_numbers_and_the_same_ones_the_same() -> None:
    found = [
        KnownStatistics().of(pretrained(data), data, CPU)
        for data in (DATA, DATA, inverted(DATA))
    ]
    assert found[0] is not None
    assert found[2] is not None
    assert found[0] == found[1]
    assert found[0].backbone == found[2].backbone
    assert math.dist(found[0].values, found[2].values) > 0.1 * math.hypot(*found[0].values)


def test_to_look_changes_nothing_of_the_backbone_and_is_done_once() -> None:
    model, before = pretrained(), pretrained().state_dict()
    known = KnownStatistics()
    first = known.of(model, DATA, CPU)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(module.training for module in model.modules())
    model.features = Mock(side_effect=AssertionError)
    assert known.of(model, DATA, CPU) is first


def test_random_weights_tell_nothing() -> None:
    assert KnownStatistics().of(tiny_backbone(DATA), DATA, CPU) is None


def test_features_that_are_not_finite_tell_nothing() -> None:
    assert projected(torch.full((3, 4), math.nan, dtype=torch.float64)) is None
