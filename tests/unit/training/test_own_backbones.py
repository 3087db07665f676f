"""A person's own backbones: offered by a file or a package, found by name, tried before they are trained."""

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.support import lab
from tests.support.pictures import tiny_data
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.runner.failures import failure_of
from worker.training.errors import (
    BackboneMissing,
    BackbonesUnreadable,
    BackboneUnfit,
    RecipeUnfit,
)
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.image_input import ImageInput
from worker.training.model.user_backbones import OwnBackbones

PLAIN = """
import torch
from torch import nn
from torch.nn import Linear

def small(classes: int) -> nn.Module:
    blocks = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, nn.Linear(4, classes))

class Wide(nn.Sequential):
    def __init__(self, width: int = 8, num_classes: int = 1000) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

def needs_more(classes, spec):
    raise NotImplementedError

def helper(path):
    raise NotImplementedError

def _hidden(classes):
    raise NotImplementedError
"""
TABLE = """
from torch import nn

def net(outputs, side=12):
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))

BACKBONES = {
    "net": {"build": net, "mean": [0.5], "std": [0.25], "image_size": 12, "classes": ["cat", "dog"]},
    "small-net": lambda n: nn.Sequential(nn.Flatten(), nn.LazyLinear(n)),
}
"""


def written(folder: Path, content: str, name: str = "mine.py") -> OwnBackbones:
    (folder / name).write_text(content)
    return OwnBackbones.gather([folder / name])


def with_body(folder: Path, body: str, facts: str = "") -> OwnBackbones:
    """A file with one backbone `net`, of 4-pixel pictures."""
    build = f"def make(classes):\n    {body}\n"
    table = f"BACKBONES = {{'net': {{'build': make, 'image_size': 4, {facts}}}}}\n"
    return written(folder, f"import torch\nfrom torch import nn\n{build}{table}")


def test_a_file_offers_what_needs_only_the_number_of_outputs(tmp_path: Path) -> None:
    own = written(tmp_path, PLAIN)
    assert sorted(own.offers) == ["Wide", "small"]
    built = own.architecture("user:small", 7)
    assert built.head == "4"
    expected = ImageInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), example_side=224)
    assert built.input.card() == expected.card()
    assert own.image_size("user:small") == 224
    assert own.architecture("user:Wide", 7).stages == ()


def test_a_file_that_names_its_backbones_offers_those_with_their_facts(tmp_path: Path) -> None:
    own = written(tmp_path, TABLE)
    assert sorted(own.offers) == ["net", "small-net"]
    built = own.architecture("user:net", 7)
    assert built.input.card() == ImageInput((0.5,), (0.25,), example_side=12).card()
    assert built.weights_classes == ("cat", "dog")
    assert (built.head, built.stages) == ("3", (("1", "2"),))
    assert own.image_size("user:net") == 12
    assert own.architecture("user:small-net", 2).head == "1"


def test_what_a_file_cannot_tell_is_found_or_told(tmp_path: Path) -> None:
    body = "return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2), nn.Linear(2, 2))"
    own = with_body(tmp_path, body, "'stages': [['0'], ['2']], 'head': '3'")
    built = own.architecture("user:net", 2)
    assert (built.stages, built.head) == ((("0",), ("2",)), "3")


def test_neighbours_of_the_file_can_be_imported_and_shadow_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 3\n")
    (tmp_path / "tabnanny.py").write_text("raise SystemExit('shadowed')\n")
    own = written(
        tmp_path,
        "import tabnanny\nfrom layers_of_mine import WIDTH\nfrom torch import nn\n"
        "def net(classes): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, classes))",
    )
    assert own.architecture("user:net", 2).head == "2"


def test_a_package_offers_by_an_entry_point_that_is_loaded_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks_of_mine.py").write_text(TABLE + "NET = BACKBONES['net']\n")
    installed = tmp_path / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[trimtab.backbones]\ntiny = networks_of_mine:NET\nbroken = nowhere_to_be_found:net\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = OwnBackbones.gather()
    assert "networks_of_mine" not in sys.modules
    assert own.architecture("user:tiny", 3).head == "3"
    with pytest.raises(
        BackboneUnfit, match="the entry point nowhere_to_be_found:net registers"
    ):
        own.image_size("user:broken")


def test_a_name_that_is_not_registered_is_told_with_those_that_are(tmp_path: Path) -> None:
    own = written(tmp_path, TABLE)
    with pytest.raises(BackboneMissing, match="registered: net, small-net") as caught:
        own.architecture("user:nett", 2)
    assert "--backbones FILE" in str(caught.value)
    assert caught.value.kind == "data_missing"
    with pytest.raises(BackboneMissing, match="registered: none"):
        backbones.build(Model(backbone="user:net", weights="none"), classes=("a",), seed=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import nowhere_at_all", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1\nraise ValueError('no gpu')", "line 2: ValueError: no gpu"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError"),
        ("x = 1", "it offers nothing"),
        ("BACKBONES = ['a']", "no mapping"),
        ("BACKBONES = {'a b': len}", "'a b' is no name"),
    ],
)
def test_a_file_that_offers_nothing_usable_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    with pytest.raises(BackbonesUnreadable, match=words) as caught:
        written(tmp_path, content)
    assert str(tmp_path / "mine.py") in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackbonesUnreadable, match="there is no such file"):
        OwnBackbones.gather([tmp_path / "nowhere.py"])
    (tmp_path / "mine.txt").write_text(PLAIN)
    with pytest.raises(BackbonesUnreadable, match=r"does not end in \.py"):
        OwnBackbones.gather([tmp_path / "mine.txt"])


def test_a_name_may_come_once(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(PLAIN)
    with pytest.raises(BackbonesUnreadable, match=r"registered twice: .*one\.py and .*two\.py"):
        OwnBackbones.gather([tmp_path / "one.py", tmp_path / "two.py"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no weights')", "RuntimeError: no weights"),
        ("return 'net'", "returns str, no torch.nn.Module"),
        ("return nn.Conv2d(9, 2, 1)", "to have 9 channels"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(48, 1000))", r"returns \(2, 1000\)"),
        ("return nn.LSTM(4, 2)", "returns tuple|RuntimeError|ValueError"),
        ("return nn.Sequential(nn.AdaptiveAvgPool3d((2, 1, 1)), nn.Flatten())", "head"),
    ],
)
def test_a_function_that_makes_no_network_for_the_task_is_told(
    tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(BackboneUnfit, match=words) as caught:
        with_body(tmp_path, body).architecture("user:net", 2)
    assert caught.value.kind == "user_error"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("'head': 'fc'", "head is not found"),
        ("'stages': [['0']]", r"2\.weight is in no stage"),
        ("'stages': [['0'], ['0', '2']]", r"0\.weight is in 0 and 0"),
        ("'sides': 3", "sides: Extra inputs"),
        ("'mean': [0.5]", "a number for each channel"),
    ],
)
def test_facts_that_do_not_fit_are_told(tmp_path: Path, facts: str, words: str) -> None:
    body = "return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2))"
    with pytest.raises(BackboneUnfit, match=words):
        with_body(tmp_path, body, facts).architecture("user:net", 2)


def test_a_network_of_one_size_gets_all_pictures_in_it(tmp_path: Path) -> None:
    body = "return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))"
    own = with_body(tmp_path, body, "'one_size': True")
    spec = Model(backbone="user:net", weights="none")
    model = backbones.build(spec, classes=("a", "b"), seed=0, own=own).eval()
    assert model(torch.zeros(3, 9, 9, 3, dtype=torch.uint8)).shape == (3, 2)


def test_a_change_of_its_code_is_seen(tmp_path: Path) -> None:
    """Features of frozen stages are kept from trial to trial: they must not outlive the code."""
    spec = Model(backbone="user:net", weights="none")
    codes = [
        backbones.build(
            spec, classes=("a", "b"), seed=0, own=with_body(tmp_path, f"return {network}")
        ).code
        for network in (
            "nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))",
            "nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))",
            "nn.Sequential(nn.GELU(), nn.Flatten(), nn.Linear(48, 2))",
        )
    ]
    assert codes[0] == codes[1] != codes[2]


def test_an_edit_that_keeps_size_and_time_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Model(backbone="user:net", weights="none")
    found: list[str] = []
    for layer in ("ReLU", "GELU"):
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        body = f"return nn.Sequential(nn.{layer}(), nn.Flatten(), nn.Linear(48, 2))"
        with_body(tmp_path, body)
        (file,) = tmp_path.glob("*.py")
        os.utime(file, (1e9, 1e9))
        monkeypatch.setattr(sys, "dont_write_bytecode", False)
        own = OwnBackbones.gather([file])
        built = backbones.build(spec, classes=("a", "b"), seed=0, own=own)
        found.append(type(built.network.get_submodule("0")).__name__)
    assert found == ["ReLU", "GELU"]


def test_it_is_built_frozen_and_trained_like_any_other(tmp_path: Path) -> None:
    own = written(tmp_path, TABLE)
    data = tiny_data(side=12)
    spec = Model(backbone="user:net", weights="none")
    model = backbones.build(spec, classes=data.classes, seed=0, own=own)
    before = model.network.get_parameter("1.weight").clone()
    (epoch,) = fit(
        TrainingRequest(model, data, Recipe(epochs=1, frozen_stages=1), seed=0, device=CPU)
    )
    assert 0 <= epoch.value <= 1
    assert torch.equal(model.network.get_parameter("1.weight"), before)


@lab.needs("user_backbones.py", "mbv2-w0.35_imagenet_bn.pt", "mbv2-w0.35_imagenet.json")
def test_a_file_that_somebody_else_wrote_is_usable_as_it_is_and_by_a_few_lines(
    tmp_path: Path,
) -> None:
    theirs = lab.FOLDER / "user_backbones.py"
    assert "CifarResNet" in OwnBackbones.gather([theirs]).offers
    own = OwnBackbones.gather([lab.register_mobilenet(tmp_path)])
    spec = Model(backbone="user:mbv2", weights=str(lab.FOLDER / "mbv2-w0.35_imagenet_bn.pt"))
    model = backbones.build(spec, classes=("ants", "bees"), seed=0, own=own)
    assert model.head_name == "linear"
    assert len(model.stages) > 10
    assert model.report is not None
    assert model.report.left_out == ("linear.weight", "linear.bias")
    assert model.report.missing == model.report.unused == ()


def test_it_is_tried_on_what_it_will_be_given(tmp_path: Path) -> None:
    body = "return nn.Sequential(Normalised(), nn.Flatten(), nn.Linear(48, classes))"
    made = (
        "class Normalised(nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert x.shape[1:] == (3, 4, 4) and x.min() < -1 and x.max() > 1\n"
        "        return x\n"
    )
    own = written(
        tmp_path,
        f"from torch import nn\n{made}\ndef make(classes):\n    {body}\n"
        "BACKBONES = {'net': {'build': make, 'image_size': 4, 'one_size': True}}\n",
    )
    assert own.architecture("user:net", 2).head == "2"


def test_a_picture_size_that_a_network_does_not_take_is_the_recipes_fault_and_told_once(
    tmp_path: Path,
) -> None:
    own = written(tmp_path, TABLE)
    data = tiny_data()
    model = Model(backbone="user:net", weights="none")
    built = backbones.build(model, classes=data.outputs, seed=0, own=own)
    request = TrainingRequest(built, data, Recipe(image_size=8), seed=0, device=CPU)
    with pytest.raises(
        RecipeUnfit, match=r"user:net does not take pictures of 8 x 8 pixels"
    ) as caught:
        next(fit(request))
    failure = failure_of(caught.value)
    assert (failure.error, failure.retryable) == ("recipe_unfit", False)
    assert "image_size" in failure.message
