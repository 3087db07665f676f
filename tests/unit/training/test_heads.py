"""Heads: what stands behind the features, drawn by the seed, whatever stood there before."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU, same_tensors
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.training.features import frozen_prefix
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones, heads, torchvision_models
from worker.training.model.backbone_cache import BackboneCache
from worker.training.model.backbones import Backbone
from worker.training.model.card import Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.freezing import Freezing
from worker.training.model.heads import LINEAR, Head

DATA = tiny_data()
GLYPHS = Model(backbone="glyphnet")
MLP = Head(width=7, activation="gelu", dropout=0.3)
HEADS = [LINEAR, MLP, Head(dropout=0.5), Head(width=5, activation="relu"), MLP, LINEAR]


def _build(head: Head, seed: int = 0) -> Backbone:
    return backbones.build(GLYPHS, classes=DATA.classes, seed=seed, head=head)


def test_a_recipe_names_its_head_and_a_linear_one_reads_nothing_of_an_mlp() -> None:
    recipe = Recipe(head="mlp", head_width=7, head_activation="gelu", head_dropout=0.3)
    assert heads.of(recipe, "classification") == MLP
    assert heads.of(recipe.model_copy(update={"head": "linear"}), "regression") == Head(
        dropout=0.3, signed=True
    )
    assert heads.of(Recipe(), "classification") == LINEAR


@pytest.mark.parametrize(
    ("activation", "layer"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("silu", nn.SiLU)]
)
def test_an_mlp_is_a_hidden_layer_its_activation_dropout_and_the_last_layer(
    activation: str, layer: type[nn.Module]
) -> None:
    model = _build(Head(width=7, activation=activation, dropout=0.3))
    first, between, dropout, last = model.head.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    assert (first.in_features, first.out_features, last.out_features) == (64, 7, 3)
    assert isinstance(between, layer)
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.3
    features = torch.randn(4, 64)
    with torch.no_grad():
        expected = last(between(first(features)))
        assert torch.equal(model.head.eval()(features), expected)


def test_a_linear_head_with_dropout_keeps_its_name_and_drops_in_training_alone() -> None:
    plain, dropping = _build(LINEAR), _build(Head(dropout=0.5))
    assert same_tensors(plain.state_dict(), dropping.state_dict())
    features = torch.ones(64, 64)
    weight = torch.eye(3, 64)
    with torch.no_grad():
        dropping.head.get_parameter("weight").copy_(weight)
        dropping.head.get_parameter("bias").zero_()
        torch.manual_seed(0)
        seen = dropping.head.train()(features)
        assert set(seen.unique().tolist()) == {0.0, 2.0}
        assert (dropping.head.eval()(features) == 1).all()


def test_heads_are_drawn_by_the_seed() -> None:
    for head in (MLP, LINEAR):
        one, again, other = (
            backbones.build(
                GLYPHS, classes=("cat", "dog"), seed=seed, head=head
            ).head.state_dict()
            for seed in (1, 1, 2)
        )
        assert same_tensors(one, again)
        assert not same_tensors(one, other)


def test_a_kept_backbone_is_bit_by_bit_a_new_one_whatever_head_it_had_before() -> None:
    backbone_cache = BackboneCache()
    for seed, head in enumerate(HEADS):
        kept = backbone_cache.take(GLYPHS, classes=DATA.classes, seed=seed, head=head)
        new = _build(head, seed)
        assert same_tensors(new.state_dict(), kept.state_dict())
        recipe = Recipe(epochs=1, batch_size=8, frozen_stages=2)
        curves = [
            [
                (e.train_loss, e.metrics)
                for e in fit(TrainingRequest(m, DATA, recipe, seed=seed, device=CPU))
            ]
            for m in (new, kept)
        ]
        assert curves[0] == curves[1]
        assert same_tensors(new.state_dict(), kept.state_dict())


def test_a_model_has_a_head_of_its_own_only_where_a_linear_one_tells_classes_apart() -> None:
    model = backbones.build(GLYPHS, classes=("7", "a"), seed=0)
    assert model.own_head is not None
    for head in (MLP, Head(signed=True)):
        model.put_head(head)
        assert model.own_head is None
    model.put_head(Head(dropout=0.5))
    assert model.own_head is not None


@pytest.mark.parametrize("head", [MLP, Head(dropout=0.5)])
def test_a_network_is_cut_before_a_head_that_is_random(head: Head) -> None:
    model = _build(head)
    freezing = Freezing(model, Recipe(frozen_stages=4))
    freezing.freeze()
    freezing.training_mode()
    halves = frozen_prefix.cut(model, 4)
    assert halves is not None
    images = torch.randint(0, 256, (5, 8, 8, 1), dtype=torch.uint8)
    stored = halves.kept(model.input(images))
    assert stored.shape == (5, 64)

    def outputs(forward: bool) -> Tensor:
        torch.manual_seed(3)
        return halves.rest(stored) if forward else model(images)

    assert torch.equal(outputs(True), outputs(False))
    torch.manual_seed(4)
    assert not torch.equal(halves.rest(stored), outputs(True))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "densenet121"])
@pytest.mark.parametrize("head", [MLP, Head(dropout=0.5)])
def test_torchvisions_heads_of_either_kind_take_another(name: str, head: Head) -> None:
    with torch.device("meta"):
        architecture = torchvision_models.architecture(name, 3)
    model = Backbone(name, ("a", "b", "c"), architecture)
    model.put_head(head)
    layers = [type(layer) for layer in model.head.children()]
    if head.width:
        assert layers[0] is layers[-1] is (nn.Conv2d if "squeeze" in name else nn.Linear)
    widths = [p.shape for p in model.head.parameters() if p.dim() > 1]
    assert widths[-1][0] == 3
    assert all(one[0] == other[1] for one, other in pairwise(widths))


def test_what_cuts_off_below_zero_gives_way_where_outputs_are_numbers() -> None:
    architecture = torchvision_models.architecture("squeezenet1_1", 1)
    model = Backbone("squeezenet1_1", ("age",), architecture).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.fill_(-1e-3)
    images = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8)
    with torch.no_grad():
        assert model(images).item() == 0
        model.put_head(Head(signed=True))
        assert model(images).item() < 0
        model.put_head(LINEAR)
        assert model(images).item() == 0


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_an_exported_model_has_its_head_again(tmp_path: Path, head: str) -> None:
    recipe = Recipe.model_validate({"epochs": 1, "head": head, "head_dropout": 0.5})
    model = _build(heads.of(recipe, "classification"))
    list(fit(TrainingRequest(model, DATA, recipe, seed=0, device=CPU)))
    card = make_card(model, DATA, recipe=recipe, seed=0, scores=Scores())
    export(tmp_path / "m.safetensors", model, card=card)
    loaded = load_exported(tmp_path / "m.safetensors").members[0].model
    images = torch.from_numpy(DATA.validation.inputs)
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), loaded(images))
