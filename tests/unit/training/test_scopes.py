"""What the scope of each hyperparameter promises, tried on every field of the recipe: a new one is tried by itself."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.pictures import tiny_data
from tests.support.recipes import another
from tests.support.tiny import CPU, plain_backbone, same_tensors, tiny_backbone
from trimtab.contract.hyperparameters import hyperparameters, of_scope
from trimtab.contract.recipe import Recipe
from worker.training.augment import augmentation
from worker.training.features import features
from worker.training.features.features import Inputs
from worker.training.loop import fit, linear_head
from worker.training.loop.epochs import epochs_of, next_epochs
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.training import Training, load_weights
from worker.training.model import heads
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing

DATA = replace(tiny_data(), key="a data set")
PROBE = Recipe(
    epochs=3,
    batch_size=8,
    learning_rate=1e-2,
    frozen_stages=1,
    optimizer="sgd",
    schedule="step",
    step_epochs=1,
)
"""Reads what other optimizers and schedules would not."""
NAMES = sorted(hyperparameters())
HEAD = sorted(of_scope("head"))
SAME_FEATURES = sorted(of_scope("head") | of_scope("step"))

Curve = list[tuple[float, dict[str, float], dict[str, Tensor]]]


def _probe(recipe: Recipe) -> Backbone:
    return plain_backbone(DATA, head=heads.of(recipe, DATA.kind))


def _begun(recipe: Recipe, beside: Training | None = None) -> Training:
    request = TrainingRequest(_probe(recipe), DATA, recipe, seed=1, device=CPU)
    return begin(request, beside=beside)


def _curve(training: Training) -> Curve:
    return [
        (epoch.train_loss, dict(epoch.metrics), dict(epoch.state().weights))
        for epoch in epochs_of(training)
    ]


def _by_graph(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> Curve:
    def nothing(*_: object) -> None:
        return None

    with monkeypatch.context() as patched:
        patched.setattr(linear_head, "of", nothing)
        return _curve(_begun(recipe))


@pytest.mark.parametrize("name", NAMES)
def test_a_head_learns_what_the_graph_would_teach_it_whatever_a_field_says(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = another(PROBE, name)
    torch.testing.assert_close(
        _curve(_begun(recipe)), _by_graph(monkeypatch, recipe), rtol=1e-4, atol=1e-5
    )


def test_plain_steps_are_asked_to_do_more_by_no_field_of_scope_head() -> None:
    plain = {name for name in NAMES if _begun(another(PROBE, name)).learner.plain is not None}
    assert plain >= of_scope("head")
    assert not plain & {"label_smoothing", "class_weights", "micro_batch_size", "head", "mixup"}


@pytest.mark.parametrize("name", HEAD)
def test_two_that_differ_in_a_field_of_scope_head_learn_beside_each_other_as_alone(
    name: str,
) -> None:
    alone = _curve(_begun(another(PROBE, name)))
    lead = _begun(PROBE)
    beside = _begun(another(PROBE, name), lead)
    assert lead.may_group
    assert beside.learner.inputs.train is lead.learner.inputs.train
    found: Curve = []
    while not beside.ended:
        going = [training for training in (lead, beside) if not training.ended]
        *_, epoch = next_epochs(going)
        assert not isinstance(epoch, Exception)
        state = epoch.state().weights
        found.append((epoch.train_loss, dict(epoch.metrics), dict(state)))
    assert [one[:2] for one in found] == [one[:2] for one in alone]
    for one, other in zip(found, alone, strict=True):
        assert same_tensors(one[2], other[2])


def _inputs(recipe: Recipe) -> tuple[str, Inputs]:
    freezing = Freezing(_probe(recipe), recipe)
    freezing.freeze()
    found = features.inputs_of(freezing, DATA, CPU, cache=None, each_batch=lambda: None)
    return features.key(freezing, DATA, CPU, "train"), found


@pytest.mark.parametrize("name", SAME_FEATURES)
def test_a_field_of_scope_head_or_step_leaves_the_features_as_they_are(name: str) -> None:
    rows = torch.arange(len(DATA.train))
    key, inputs = _inputs(PROBE)
    other_key, others = _inputs(another(PROBE, name))
    assert other_key == key
    assert torch.equal(others.train.take(rows)[0], inputs.train.take(rows)[0])


def test_only_fields_of_scope_data_change_pictures_from_step_to_step() -> None:
    changing = {n for n in NAMES if augmentation.of(another(Recipe(), n)) is not None}
    assert changing == {"augmentation", "mixup", "cutmix", "random_erasing"}
    assert changing <= of_scope("data")


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_state_gives_back_the_network_that_was_measured_whatever_a_field_says(
    name: str, lora_rank: int
) -> None:
    base = Recipe(epochs=2, batch_size=8, learning_rate=1e-2, lora_rank=lora_rank)
    recipe = another(base, name)
    trained, again = (tiny_backbone(DATA, head=heads.of(recipe, DATA.kind)) for _ in range(2))
    request = TrainingRequest(trained, DATA, recipe, seed=0, device=CPU)
    *_, last = fit.fit(request)
    load_weights(Freezing(again, recipe), last.state(whole=False))
    torch.testing.assert_close(again.network.state_dict(), trained.network.state_dict())
