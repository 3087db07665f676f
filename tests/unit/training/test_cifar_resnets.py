"""The CIFAR ResNets, and the weights that were published for them."""

import numpy as np
import pytest
import torch

from tests.support import lab
from trimtab.contract.backbones import CIFAR_RESNETS
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import ImageSpec
from worker.training.model import backbones, cifar_resnets
from worker.training.model.backbones import Backbone, is_within

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
LOSSLESS = "cifar10_lossless_1k_of_train.npz"


@pytest.mark.parametrize(
    ("name", "millions"),
    list(zip(CIFAR_RESNETS, (0.27, 0.46, 0.66, 0.85, 1.7), strict=True)),
)
def test_each_has_the_parameters_of_the_papers_table(name: str, millions: float) -> None:
    """Table 6 of the paper."""
    network = cifar_resnets.architecture(name, 10).network
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.03)
    depth = int(name.removeprefix("cifar_resnet"))
    assert sum(parameter.dim() > 1 for parameter in network.parameters()) == depth


def test_a_shortcut_halves_the_sides_and_adds_channels_of_zeros_on_both_sides() -> None:
    block = cifar_resnets.Block(2, 4).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 2, 4, 4)
    y = block(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, [0, 3]], torch.zeros(1, 2, 2, 2))


def test_its_stages_and_its_head_are_all_of_it() -> None:
    built = cifar_resnets.architecture("cifar_resnet20", 7)
    model = Backbone("cifar_resnet20", tuple("abcdefg"), built)
    groups = [*built.stages, (model.head_name,)]
    for name, _ in built.network.named_parameters():
        assert sum(is_within(name, group) for group in groups) == 1
    assert model.eval()(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape == (2, 7)


def test_pictures_have_the_side_of_cifars_unless_the_recipe_says_otherwise() -> None:
    model = Model(backbone="cifar_resnet32")
    assert backbones.input_spec(model, Recipe()) == ImageSpec(32)
    assert backbones.input_spec(model, Recipe(image_size=48)) == ImageSpec(48)


@lab.needs("resnet20_cifar10.pt", "resnet32_cifar10.pt", "resnet20-12fca82f.th")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar_resnet20", "resnet20_cifar10.pt"),
        ("cifar_resnet32", "resnet32_cifar10.pt"),
        ("cifar_resnet20", "resnet20-12fca82f.th"),
    ],
)
def test_weights_as_people_publish_them_load_completely(name: str, file: str) -> None:
    spec = Model(backbone=name, weights=str(lab.FOLDER / file))
    report = backbones.build(spec, classes=CIFAR10, seed=0).report
    assert report is not None
    assert report.left_out == report.quantised == report.missing == report.unused == ()


@lab.needs("resnet20-12fca82f.th", LOSSLESS)
def test_the_published_resnet20_knows_cifar_before_any_training() -> None:
    """Its own head is found by the names of the classes, in whatever order the task has them."""
    classes = CIFAR10[::-1]
    spec = Model(backbone="cifar_resnet20", weights=str(lab.FOLDER / "resnet20-12fca82f.th"))
    model = backbones.build(spec, classes=classes, seed=0).eval()
    assert model.own_head is not None
    model.head.load_state_dict(model.own_head)
    with np.load(lab.FOLDER / LOSSLESS) as pictures, torch.no_grad():
        found = model(torch.from_numpy(pictures["x"])).argmax(dim=1).numpy()
        named = [CIFAR10.index(classes[each]) for each in found]
        assert np.mean(named == pictures["y"]) == 0.999
