"""What of a network is trained."""

import pytest
import torch

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training import adaptation
from worker.training.fit import fit

DATA = tiny_data()


def _changed(recipe: Recipe) -> set[str]:
    model = tiny_backbone(DATA)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    list(fit(model, DATA, recipe, seed=0, device=CPU))
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
    adaptation.training_mode(model, Recipe(frozen_stages=1))
    training = {name for name, module in model.network.named_children() if module.training}
    assert training == {"conv2", "bn2", "drop", "fc"}


def test_one_picture_a_batch_uses_the_pretrained_statistics() -> None:
    assert _changed(Recipe(epochs=1, batch_size=1)) == {"conv", "bn", "conv2", "bn2", "fc"}
    model = tiny_backbone(DATA)
    list(fit(model, DATA, Recipe(epochs=1, batch_size=1), seed=0, device=CPU))
    assert model.network.state_dict()["bn.running_mean"].abs().sum() == 0
