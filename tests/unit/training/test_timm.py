"""The models of timm, each by its name: its head, stages, pictures and weights are those that timm tells."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from tests.support.pictures import picture, tiny_data
from tests.support.tiny import CPU
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import ImageSpec
from worker.training.errors import (
    BackboneUnfit,
    BackboneUnknown,
    LibraryMissing,
    WeightsUnavailable,
    WeightsUnfit,
    WeightsUnpublished,
)
from worker.training.features import frozen_prefix
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones, lora, timm_models
from worker.training.model.backbones import Backbone
from worker.training.model.card import Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.freezing import Freezing
from worker.training.model.predictor import Prediction
from worker.training.safetensors_files import write

CLASSES = tuple("abcdefg")
RESNET = "timm:test_resnet"
"""A network of 0.4 million parameters for tests; its weights are published as timm/test_resnet.r160_in1k."""
TINY = (
    *("test_byobnet", "test_convnext", "test_coatnet", "test_efficientnet", "test_mambaout"),
    *("test_maxvit", "test_nfnet", "test_resnet", "test_vit", "test_vit3", "test_vit_relpos"),
)
LARGER = (
    *("resnet10t", "deit_tiny_distilled_patch16_224", "levit_128s", "repvit_m0_9", "vgg11"),
    *("caformer_s18", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"),
)


def _built(name: str) -> Backbone:
    return backbones.build(Model(backbone=name, weights="none"), classes=CLASSES, seed=0)


@pytest.mark.parametrize("name", [*TINY, *LARGER])
def test_every_family_gets_a_head_and_stages_and_takes_small_grey_pictures(name: str) -> None:
    with torch.device("meta"):
        built = timm_models.architecture(f"timm:{name}", len(CLASSES))
    model = Backbone(f"timm:{name}", CLASSES, built).to("meta").eval()
    pictures = torch.zeros(2, 8, 8, 1, dtype=torch.uint8, device="meta")
    assert model(pictures).shape == (2, len(CLASSES))
    assert model.features(pictures).shape[0] == 2
    assert isinstance(model.head, (nn.Linear, nn.Conv2d))
    staged = [
        id(parameter)
        for stage in built.stages
        for name, parameter in built.network.named_parameters()
        if backbones.is_within(name, stage)
    ]
    head = [id(parameter) for parameter in model.head.parameters()]
    assert len(built.stages) >= 4
    assert sorted(staged + head) == sorted(id(p) for p in built.network.parameters())


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("test_resnet", ("conv1", "bn1"), ("layer4",), 5),
        ("test_convnext", ("stem",), ("stages.3", "head.norm"), 5),
        (
            "vit_tiny_patch16_224",
            ("cls_token", "pos_embed", "patch_embed"),
            ("blocks.11", "norm"),
            13,
        ),
    ],
)
def test_stages_are_those_of_timm_from_the_input_on_and_a_last_norm_is_of_the_last_block(
    name: str, first: tuple[str, ...], last: tuple[str, ...], count: int
) -> None:
    with torch.device("meta"):
        stages = timm_models.architecture(f"timm:{name}", 3).stages
    assert (stages[0], stages[-1], len(stages)) == (first, last, count)


def test_pictures_are_scaled_and_cropped_as_the_published_weights_were_evaluated() -> None:
    tiny = Model(backbone="timm:test_resnet")
    assert backbones.input_spec(tiny, Recipe()) == ImageSpec(160, "crop", "bilinear", 0.95)
    small = Model(backbone="timm:resnet10t.c3_in1k")
    spec = backbones.input_spec(small, Recipe(image_size=64, resize="pad"))
    assert spec == ImageSpec(64, "pad", "bicubic", 0.875)


def test_pictures_get_its_own_statistics_and_a_side_that_it_takes() -> None:
    fixed, free = _built("timm:test_vit_relpos").input, _built(RESNET).input
    for layer, stored, side in (
        (fixed, 8, 160),
        (fixed, 200, 160),
        (free, 8, 32),
        (free, 200, 200),
    ):
        taken = layer(torch.full((1, stored, stored, 3), 255, dtype=torch.uint8))
        assert taken.shape == (1, 3, side, side)
        assert torch.allclose(taken, torch.ones(()), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet10", "the nearest: timm:resnet10t"),
        ("resnet18.best", "the nearest: timm:resnet18.a1_in1k, timm:resnet18.a2_in1k"),
        ("convnext_tiny_in22ft1k", "timm:convnext_tiny.fb_in22k_ft_in1k"),
    ],
)
def test_a_name_that_timm_does_not_know_is_told_with_the_nearest(name: str, told: str) -> None:
    with pytest.raises(BackboneUnknown, match=told) as caught:
        _built(f"timm:{name}")
    assert caught.value.kind == "data_missing"


def test_without_the_extra_a_worker_says_which_one_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LibraryMissing, match=r"pip install 'trimtab\[timm\]'") as caught:
        _built(RESNET)
    assert caught.value.kind == "data_missing"


def test_a_network_of_pictures_that_are_not_square_is_refused() -> None:
    name = "timm:vit_base_patch16_sapiens2"
    reason = "its weights take pictures of 1024 x 768, and here all are square"
    with pytest.raises(BackboneUnfit, match=reason):
        backbones.input_spec(Model(backbone=name), Recipe())
    # Whatever size a recipe asks for: positions are the weights' own.
    with pytest.raises(BackboneUnfit, match=reason):
        backbones.input_spec(Model(backbone=name), Recipe(image_size=256))
    with pytest.raises(BackboneUnfit, match=reason):
        _built(name)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    state = _built(RESNET).network.state_dict()
    state = {
        name: value + 1 if name == "conv1.0.weight" else value for name, value in state.items()
    }
    path = tmp_path / f"weights{suffix}"
    if suffix == ".bin":
        torch.save(state, path)
    else:
        write(path, state, {})
    model = Model(backbone=RESNET, weights=str(path))
    loaded = backbones.build(model, classes=CLASSES, seed=1)
    assert torch.equal(loaded.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert loaded.report is not None
    assert loaded.report.share == 1.0


def _as_its_authors_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a ConvNeXt the names of github.com/facebookresearch/ConvNeXt."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        name = re.sub(r"stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", name)
        name = re.sub(r"stages\.(\d)\.blocks\.(\d)", r"stages.\1.\2", name)
        name = name.replace("stem.", "downsample_layers.0.").replace("conv_dw", "dwconv")
        name = name.replace("mlp.fc", "pwconv").replace("head.norm.", "norm.")
        found[name.replace("head.fc.", "head.")] = value
    return found


def test_weights_as_the_authors_published_them_get_timms_names(tmp_path: Path) -> None:
    name = "timm:test_convnext"
    state = _built(name).network.state_dict()
    changed = {name: value + 1 for name, value in state.items()}
    published = _as_its_authors_published(changed)
    assert len(set(published) & set(state)) < len(state) / 2
    torch.save({"model": published}, tmp_path / "weights.pth")
    model = Model(backbone=name, weights=str(tmp_path / "weights.pth"))
    loaded = backbones.build(model, classes=CLASSES, seed=1)
    assert loaded.report is not None
    assert loaded.report.share == 1.0
    found = loaded.network.state_dict()
    key = "stages.1.blocks.0.mlp.fc1.weight"
    assert torch.equal(found[key], changed[key])


def test_a_file_of_another_network_is_told_as_for_every_other_backbone(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    for name in ("timm:test_convnext", "timm:test_vit", RESNET):
        model = Model(backbone=name, weights=str(tmp_path / "weights.pth"))
        with pytest.raises(WeightsUnfit, match="is it another network's"):
            backbones.build(model, classes=CLASSES, seed=1)


def _in_the_hubs_cache(folder: Path) -> Path:
    """Put weights where timm's own `pretrained=True` would have."""
    snapshot = folder / "models--timm--test_resnet.r160_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    path = snapshot / "model.safetensors"
    write(path, timm_models.architecture(RESNET, 1000).network.state_dict(), {})
    return path


def test_published_weights_that_timm_has_cached_are_found_and_know_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    path = _in_the_hubs_cache(tmp_path)
    loaded = backbones.build(Model(backbone=RESNET), classes=("goldfish", "tench"), seed=0)
    assert loaded.report is not None
    assert loaded.report.source == str(path)
    assert loaded.report.head
    assert loaded.known_head is not None
    assert loaded.known_head["weight"].shape == (2, 96)


def test_offline_a_name_without_cached_weights_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE is set") as caught:
        backbones.build(Model(backbone=RESNET), classes=CLASSES, seed=0, weights_dir=tmp_path)
    wanted = tmp_path / "test_resnet.r160_in1k.safetensors"
    assert str(wanted) in str(caught.value)
    write(wanted, timm_models.architecture(RESNET, 1000).network.state_dict(), {})
    found = backbones.build(
        Model(backbone=RESNET), classes=CLASSES, seed=0, weights_dir=tmp_path
    )
    assert found.report is not None
    assert found.report.source == str(wanted)


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(WeightsUnpublished, match="to none for random ones"):
        backbones.build(Model(backbone="timm:test_mambaout"), classes=CLASSES, seed=0)


@pytest.mark.parametrize(
    "name",
    ["test_byobnet", "test_convnext", "test_mambaout", "test_resnet", "test_vit_relpos"],
)
def test_what_frozen_stages_make_of_pictures_can_be_kept_and_a_lone_head_is_left(
    name: str,
) -> None:
    model = _built(f"timm:{name}")
    for frozen in (1, len(model.stages)):
        freezing = Freezing(model, Recipe(frozen_stages=frozen))
        freezing.freeze()
        freezing.training_mode()
        halves = frozen_prefix.cut(model, frozen)
        assert halves is not None
        assert (halves.layer is model.head) == (frozen == len(model.stages))


def test_lora_reaches_its_linear_layers_and_convolutions() -> None:
    reached = set(lora.targets(_built("timm:test_vit_relpos").network))
    assert {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.8.mlp.fc2.weight",
    } <= reached


def test_a_network_that_was_distilled_has_one_head_for_both() -> None:
    model = _built("timm:levit_128s").eval()
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], outputs: Tensor) -> None:
        seen.append(outputs)

    model.head.register_forward_hook(keep)
    with torch.no_grad():
        outputs = model(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert all(torch.equal(outputs, one) for one in seen)
    assert not any("dist" in name for name, _ in model.network.named_parameters())


@pytest.mark.parametrize(
    "recipe", [{}, {"lora_rank": 2}, {"frozen_stages": 3, "layer_decay": 0.7}]
)
def test_a_small_one_trains_and_its_file_predicts_what_it_did(
    recipe: dict[str, float], tmp_path: Path
) -> None:
    data = tiny_data(train=8, validation=4, side=32, channels=3)
    data = replace(data, details={"interpolation": "bicubic", "crop": 0.5})
    model = backbones.build(
        Model(backbone=RESNET, weights="none"), classes=data.classes, seed=0
    )
    asked = Recipe.model_validate({"epochs": 1, "batch_size": 4, **recipe})
    results = list(fit(TrainingRequest(model, data, asked, seed=0, device=CPU)))
    assert len(results) == 1
    card = make_card(model, data, recipe=asked, seed=0, scores=Scores())
    export(tmp_path / "model.safetensors", model, card=card)
    loaded = load_exported(tmp_path / "model.safetensors")
    assert (loaded.card.backbone, loaded.card.interpolation, loaded.card.crop) == (
        RESNET,
        "bicubic",
        0.5,
    )
    drawn = picture(3, size=(64, 64))
    middle = drawn.crop((16, 16, 48, 48))
    stored = torch.from_numpy(np.array(middle)[None])
    with torch.no_grad():
        wanted = model.eval()(stored).softmax(1)[0]
    (told,) = loaded.predict([drawn])
    assert isinstance(told, Prediction)
    assert list(told.probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-5)
