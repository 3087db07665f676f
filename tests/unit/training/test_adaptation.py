"""What of a network is trained."""

import pytest
import torch
from torch import Tensor

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing

DATA = tiny_data()


def _copy_of(model: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def _changed(recipe: Recipe) -> set[str]:
    model = tiny_backbone(DATA)
    before = _copy_of(model)
    list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)))
    after = model.network.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("stages", "trained"),
    [
        (0, {"conv", "bn", "conv2", "bn2", "fc"}),
        (1, {"conv2", "bn2", "fc"}),
        (2, {"fc"}),
        (1000, {"fc"}),
    ],
)
def test_frozen_stages_keep_weights_and_statistics(stages: int, trained: set[str]) -> None:
    assert _changed(Recipe(epochs=1, batch_size=8, frozen_stages=stages)) == trained


def test_dropout_of_what_is_trained_stays_on_and_frozen_stages_stay_in_evaluation() -> None:
    model = tiny_backbone(DATA).eval()
    Freezing(model, Recipe(frozen_stages=1)).training_mode()
    training = {name for name, module in model.network.named_children() if module.training}
    assert training == {"conv2", "bn2", "drop", "fc"}


def test_stages_thaw_one_by_one_the_last_one_first() -> None:
    model = tiny_backbone(DATA)
    recipe = Recipe(epochs=6, batch_size=8, frozen_stages=1000, unfreeze_every=2)
    moved: list[set[str]] = []
    before = _copy_of(model)
    for _ in fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)):
        after = _copy_of(model)
        moved.append({n.split(".")[0] for n in after if not torch.equal(before[n], after[n])})
        before = after
    head, last = {"fc"}, {"conv2", "bn2", "fc"}
    assert moved == [head, head, last, last, last | {"conv", "bn"}, last | {"conv", "bn"}]


def test_stages_that_no_epoch_thaws_stay_still() -> None:
    recipe = Recipe(epochs=4, frozen_stages=2, unfreeze_every=2)
    freezing = Freezing(tiny_backbone(DATA), recipe)
    assert [freezing.stages(epoch) for epoch in range(4)] == [2, 2, 1, 1]
    assert freezing.still == 1


def test_frozen_batch_norm_keeps_its_statistics_while_scale_and_shift_are_trained() -> None:
    model = tiny_backbone(DATA)
    before = _copy_of(model)
    recipe = Recipe(epochs=1, batch_size=8, batch_norm="frozen")
    list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)))
    after = _copy_of(model)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"bn.weight", "bn.bias", "conv.weight"} <= moved
    assert not {name for name in moved if "running" in name or "num_batches" in name}


def test_one_picture_a_batch_uses_the_pretrained_statistics() -> None:
    assert _changed(Recipe(epochs=1, batch_size=1)) == {"conv", "bn", "conv2", "bn2", "fc"}
    model = tiny_backbone(DATA)
    list(fit(TrainingRequest(model, DATA, Recipe(epochs=1, batch_size=1), seed=0, device=CPU)))
    assert model.network.state_dict()["bn.running_mean"].abs().sum() == 0


def test_the_modules_of_frozen_stages_stay_in_evaluation_mode() -> None:
    model = tiny_backbone(DATA)
    Freezing(model, Recipe(frozen_stages=1)).training_mode()
    layers = ("conv", "bn", "conv2", "bn2", "fc")
    still = {name for name in layers if not model.network.get_submodule(name).training}
    assert still == {"conv", "bn"}
