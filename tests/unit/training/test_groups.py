"""Which parameter moves by which rule."""

import pytest

from tests.support.pictures import tiny_data
from tests.support.tiny import tiny_backbone
from trimtab.contract.recipe import Recipe
from worker.training.model.freezing import Freezing
from worker.training.optim import param_groups
from worker.training.optim.param_groups import Rule


def _rules(**fields: object) -> dict[str, Rule]:
    recipe = Recipe.model_validate({"learning_rate": 0.1, "weight_decay": 0.3, **fields})
    model = tiny_backbone(tiny_data())
    freezing = Freezing(model, recipe)
    return {
        name: group.rule
        for group in param_groups.of_backbone(freezing, freezing.low_rank(seed=0))
        for name in group.parameters
    }


def test_without_options_all_weights_decay_alike_and_biases_and_norms_do_not() -> None:
    rules = _rules()
    weights = {"conv.weight", "conv2.weight", "fc.weight"}
    assert {name for name, rule in rules.items() if rule == Rule("adamw", 1.0, 0.3)} == weights
    assert {rule for name, rule in rules.items() if name not in weights} == {Rule("adamw")}


def test_the_learning_rate_falls_from_stage_to_stage_away_from_the_head() -> None:
    rules = _rules(layer_decay=0.5, head_learning_rate=1.0)
    assert {name: rule.rate for name, rule in rules.items() if name.endswith("weight")} == {
        "fc.weight": 10.0,
        "bn2.weight": 0.5,
        "conv2.weight": 0.5,
        "bn.weight": 0.25,
        "conv.weight": 0.25,
    }


def test_the_heads_rate_is_its_own_or_a_multiple_of_the_rest() -> None:
    def of_head(**fields: object) -> float:
        return _rules(**fields)["fc.weight"].rate

    assert of_head(head_factor=7.0) == 7.0
    assert of_head(head_factor=7.0, head_learning_rate=0.3) == pytest.approx(3.0)
    assert _rules(head_factor=7.0)["conv2.weight"].rate == 1.0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_l2_sp_takes_the_place_of_the_backbones_decay_and_the_head_keeps_its_own(
    optimizer: str,
) -> None:
    rules = _rules(l2_sp=0.7, optimizer=optimizer)
    pulls = {name: (rule.weight_decay, rule.l2_sp) for name, rule in rules.items()}
    assert pulls.pop("fc.weight") == (0.3, 0.0)
    assert pulls.pop("conv.weight") == pulls.pop("conv2.weight") == (0.0, 0.7)
    assert set(pulls.values()) == {(0.0, 0.0)}


def test_muon_moves_the_backbones_matrices_and_adamw_the_rest() -> None:
    updates = {name: rule.update for name, rule in _rules(optimizer="muon").items()}
    assert {name for name, update in updates.items() if update == "muon"} == {
        "conv.weight",
        "conv2.weight",
    }
    assert set(updates.values()) == {"muon", "adamw"}


def test_with_lora_the_factors_move_in_place_of_the_stages_parameters() -> None:
    rules = _rules(lora_rank=2, frozen_stages=1, layer_decay=0.5, optimizer="muon", l2_sp=0.7)
    factor = Rule("muon", 0.5, 0.0, 0.7)
    assert rules == {
        "conv2.weight.lora_A": factor,
        "conv2.weight.lora_B": factor,
        "fc.weight": Rule("adamw", 1.0, 0.3),
        "fc.bias": Rule("adamw"),
    }
