"""The classification models of torchvision, each by its name."""

import pytest
import torch
from torch import Tensor, nn

from tests.support.pictures import tiny_data
from tests.support.tiny import CPU
from trimtab.contract.backbones import TORCHVISION_BACKBONES
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import ImageSpec
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones, torchvision_models
from worker.training.model.backbones import Backbone

CLASSES = tuple("abcdefg")
INITIALISERS = (
    "normal_",
    "uniform_",
    "trunc_normal_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "constant_",
    "zeros_",
    "ones_",
)


def _leave(tensor: Tensor, *_: object, **__: object) -> Tensor:
    return tensor


def _without_data(name: str, patch: pytest.MonkeyPatch) -> backbones.Architecture:
    """A model whose tensors have shapes and no content: the largest would fill 2.6 GB."""
    if not name.startswith("regnet"):
        with torch.device("meta"):
            return torchvision_models.architecture(name, len(CLASSES))
    # These compute their widths with tensors, which need content; their weights are made but never written.
    for initialiser in INITIALISERS:
        patch.setattr(nn.init, initialiser, _leave)
    built = torchvision_models.architecture(name, len(CLASSES))
    built.network.to("meta")
    return built


@pytest.mark.parametrize("name", TORCHVISION_BACKBONES)
def test_every_model_gets_a_head_and_stages_and_takes_small_grey_pictures(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = _without_data(name, monkeypatch)
    model = Backbone(name, CLASSES, built).to("meta").eval()
    pictures = torch.zeros(2, 8, 8, 1, dtype=torch.uint8, device="meta")
    assert model(pictures).shape == (2, len(CLASSES))

    staged = [
        id(parameter)
        for stage in built.stages
        for name, parameter in built.network.named_parameters()
        if backbones.is_within(name, stage)
    ]
    head = [id(parameter) for parameter in model.head.parameters()]
    assert len(built.stages) >= 4
    assert sorted(staged + head) == sorted(id(p) for p in built.network.parameters())
    assert built.weights_url is not None
    assert len(built.weights_classes) == 1000


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        (
            "resnet18",
            [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)],
        ),
        (
            "alexnet",
            [
                ("features.0",),
                ("features.3",),
                ("features.6", "features.8", "features.10"),
                ("classifier.1", "classifier.4"),
            ],
        ),
        (
            "densenet121",
            [
                ("features.conv0", "features.norm0"),
                ("features.denseblock1",),
                ("features.transition1",),
                ("features.denseblock2",),
                ("features.transition2",),
                ("features.denseblock3",),
                ("features.transition3",),
                ("features.denseblock4", "features.norm5"),
            ],
        ),
    ],
)
def test_stages_follow_the_network_from_its_input(
    name: str, stages: list[tuple[str, ...]]
) -> None:
    with torch.device("meta"):
        assert torchvision_models.architecture(name, 3).stages == tuple(stages)


def test_a_class_token_and_its_positions_freeze_with_the_first_stage() -> None:
    with torch.device("meta"):
        first, *_, last = torchvision_models.architecture("vit_b_16", 3).stages
    assert first == ("conv_proj", "class_token", "encoder.pos_embedding")
    assert last == ("encoder.layers.encoder_layer_11", "encoder.ln")


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "vit_b_16"])
def test_features_are_a_row_a_picture_before_any_kind_of_head(name: str) -> None:
    with torch.device("meta"):
        model = Backbone(name, CLASSES, torchvision_models.architecture(name, len(CLASSES)))
        features = model.eval().features(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))
    assert features.shape == (2, {"squeezenet1_1": 512, "vit_b_16": 768}.get(name, 1024))


@pytest.mark.parametrize(
    ("name", "side"), [("resnet18", 224), ("inception_v3", 299), ("efficientnet_b7", 600)]
)
def test_pictures_have_the_size_of_the_published_weights_unless_the_recipe_says_otherwise(
    name: str, side: int
) -> None:
    model = Model(backbone=name)
    assert backbones.input_spec(model, Recipe()) == ImageSpec(side)
    assert backbones.input_spec(model, Recipe(image_size=64)) == ImageSpec(64)


def test_a_small_model_trains() -> None:
    data = tiny_data(train=8, validation=4, side=16, channels=3)
    model = backbones.build(
        Model(backbone="squeezenet1_1", weights="none"), classes=data.classes, seed=0
    )
    results = list(
        fit(TrainingRequest(model, data, Recipe(epochs=1, batch_size=4), seed=0, device=CPU))
    )
    assert len(results) == 1
