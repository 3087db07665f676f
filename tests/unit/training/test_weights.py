"""Weights as people publish them."""

import argparse
import importlib
import pickle
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, hub, nn

from tests.support.tiny import same_tensors
from worker.training import safetensors_files
from worker.training.errors import (
    WeightsMissing,
    WeightsNotFinite,
    WeightsPartial,
    WeightsUnavailable,
    WeightsUnfit,
    WeightsUnreadable,
)
from worker.training.model import published_weights, weights_files
from worker.training.model.published_weights import WeightsReport
from worker.training.model.weights_files import WeightsFile


def _network(outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, outputs))


def _load(
    network: nn.Module, file: WeightsFile, *, head: str = "head", partial: bool = False
) -> WeightsReport:
    return published_weights.load_into(
        network, file, source="file", backbone="net", head=head, partial=partial
    )


def _wrapped(how: str, state: dict[str, Tensor]) -> object:
    prefixed = {f"module.{name}": value for name, value in state.items()}
    moments = {number: {"mean": torch.zeros(3), "var": torch.zeros(3)} for number in range(9)}
    compiled = {f"_orig_mod.{name}": value for name, value in state.items()}
    return {
        "bare": state,
        "state_dict": {"state_dict": prefixed, "best_prec1": 91.7, "epoch": 3},
        "model": {"model": {"state_dict": compiled}, "args": "--lr 1"},
        "parts": {"trunk": state, "optimizer": {"state": moments, "lr": 0.1}},
    }[how]


@pytest.mark.parametrize("suffix", ["pt", "pth", "th"])
@pytest.mark.parametrize("how", ["bare", "state_dict", "model"])
def test_a_torch_file_is_unwrapped(tmp_path: Path, how: str, suffix: str) -> None:
    state = _network().state_dict()
    torch.save(_wrapped(how, state), tmp_path / f"a.{suffix}")
    file = published_weights.named_for(_network(), weights_files.read(tmp_path / f"a.{suffix}"))
    assert same_tensors(state, dict(file.tensors))


def test_a_safetensors_file_brings_its_metadata(tmp_path: Path) -> None:
    state = _network().state_dict()
    safetensors_files.write(tmp_path / "a.safetensors", state, {"author": "someone"})
    file = weights_files.read(tmp_path / "a.safetensors")
    assert same_tensors(state, dict(file.tensors))
    assert file.metadata == {"author": "someone"}


def test_the_same_tensors_give_the_same_file(tmp_path: Path) -> None:
    state = _network().state_dict()
    for name in "ab":
        safetensors_files.write(tmp_path / name, state, {"card": "x"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_in_mappings_of_any_depth_are_named_by_their_way_there(tmp_path: Path) -> None:
    torch.save(_wrapped("parts", _network().state_dict()), tmp_path / "a.pt")
    file = published_weights.named_for(_network(), weights_files.read(tmp_path / "a.pt"))
    report = _load(_network(), file)
    assert report.missing == ()
    assert report.unused[0] == "optimizer.state.0.mean"


def test_names_from_before_torch_forbade_dots_are_understood(tmp_path: Path) -> None:
    old = "features.denseblock1.denselayer2.norm.1.running_mean"
    torch.save({old: torch.zeros(1)}, tmp_path / "a.pth")
    assert list(weights_files.read(tmp_path / "a.pth").tensors) == [
        "features.denseblock1.denselayer2.norm1.running_mean"
    ]


class _Bomb:
    """Unpickling it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_weights_file_is_never_run(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "x": _Bomb(tmp_path / "hit")}, tmp_path / "a.pt"
    )
    (tmp_path / "b.pth").write_bytes(pickle.dumps(_Bomb(tmp_path / "hit")))
    for name in ("a.pt", "b.pth"):
        with pytest.raises(WeightsUnreadable, match=f"{name}.*code is never run") as caught:
            weights_files.read(tmp_path / name)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "hit").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="there is no such weights file") as caught:
        weights_files.read(tmp_path / "nowhere.pt")
    assert caught.value.kind == "data_missing"


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnreadable, match=r"it is a folder, .* name one file of weights"):
        weights_files.read(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_unreadable(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "pt":
        torch.save(_network().state_dict(), path)
    else:
        safetensors_files.write(path, _network().state_dict(), {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsUnreadable):
        weights_files.read(path)


@given(content=st.binary(max_size=100))
def test_bytes_that_are_no_weights_are_unreadable(tmp_path: Path, content: bytes) -> None:
    for suffix in ("safetensors", "pth"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsUnreadable):
            weights_files.read(path)


def test_a_file_of_a_single_tensor_is_unreadable(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(WeightsUnreadable, match="holds a Tensor"):
        weights_files.read(tmp_path / "a.pt")


def test_what_matched_and_what_did_not_is_told() -> None:
    network = _network()
    theirs = _network(outputs=5).state_dict() | {"aux.weight": torch.zeros(1)}
    del theirs["1.bias"]
    untouched = network.state_dict()["2.weight"].clone()
    report = _load(network, WeightsFile(theirs), partial=True)
    assert report.left_out == ("2.weight", "2.bias")
    assert report.missing == ("1.bias",)
    assert report.unused == ("aux.weight",)
    assert "0.weight" in report.matched
    now = network.state_dict()
    assert torch.equal(now["0.weight"], theirs["0.weight"])
    assert torch.equal(now["2.weight"], untouched)


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "module.encoder.net."])
def test_a_prefix_that_all_or_most_names_share_is_seen_through(prefix: str) -> None:
    theirs = {f"{prefix}{name}": value for name, value in _network().state_dict().items()}
    theirs["head.weight"] = torch.zeros(5, 4)
    file = published_weights.named_for(_network(), WeightsFile(theirs))
    report = _load(_network(), file)
    assert report.missing == report.left_out == ()
    assert report.unused == ("head.weight",)


def test_weights_of_the_network_that_ones_own_holds_are_found_a_place() -> None:
    own = nn.ModuleDict({"trunk": _network(), "head": nn.Linear(2, 3)})
    theirs = _network()
    file = published_weights.named_for(own, WeightsFile(theirs.state_dict()))
    report = _load(own, file, head="head")
    assert report.missing == ("head.weight", "head.bias")
    assert same_tensors(own["trunk"].state_dict(), theirs.state_dict())


def test_a_prefix_of_a_few_names_is_part_of_them() -> None:
    """Of one tensor that would match by chance, and many that would not."""
    theirs = {"deep.0.weight": torch.zeros(4, 3)} | {
        f"other.{each}": torch.zeros(1) for each in "abc"
    }
    file = published_weights.named_for(_network(), WeightsFile(theirs))
    assert list(file.tensors) == list(theirs)


def test_names_that_are_the_networks_own_are_left_alone() -> None:
    own = nn.ModuleDict({"model": _network()})
    state = own.state_dict()
    assert list(published_weights.named_for(own, WeightsFile(state)).tensors) == list(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_another_precision_are_converted(dtype: torch.dtype) -> None:
    network, theirs = _network(), _network()
    state = {name: value.to(dtype) for name, value in theirs.state_dict().items()}
    _load(network, WeightsFile(state))
    now = network.state_dict()["0.weight"]
    assert now.dtype == torch.float32
    assert torch.allclose(now, theirs.state_dict()["0.weight"], atol=1e-2)


def _int8(value: Tensor) -> Tensor:
    return (value * 10).to(torch.int8)


def _quantised(value: Tensor) -> Tensor:
    return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def _float8(value: Tensor) -> Tensor:
    return value.to(torch.float8_e4m3fn)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage")
@pytest.mark.parametrize("squeeze", [_int8, _quantised, _float8])
def test_quantised_tensors_are_left_aside_and_told(
    tmp_path: Path, squeeze: Callable[[Tensor], Tensor]
) -> None:
    network, state = _network(), dict(_network().state_dict())
    untouched = network.state_dict()["2.weight"].clone()
    state["2.weight"] = squeeze(state["2.weight"])
    torch.save(state, tmp_path / "a.pt")
    file = weights_files.read(tmp_path / "a.pt")
    report = _load(network, file, partial=True)
    assert report.quantised == ("2.weight",)
    assert torch.equal(network.state_dict()["2.weight"], untouched)
    assert "1 quantised (2.weight)" in report.in_words()


def test_a_file_of_nothing_but_quantised_weights_is_refused() -> None:
    state = {name: _int8(value) for name, value in _network().state_dict().items()}
    with pytest.raises(WeightsUnfit):
        _load(_network(), WeightsFile(state))


def test_what_matched_is_told_in_a_line_that_names_some_of_the_rest() -> None:
    report = WeightsReport("a.pt", matched=("x",) * 60, missing=tuple("abcdef"))
    told = "60 tensors of a.pt fit; 6 not in the file (a, b, c, d, ...)"
    assert report.in_words() == told


def test_weights_of_another_network_are_refused() -> None:
    theirs = WeightsFile({"0.weight": torch.zeros(9, 9), "blocks.0": torch.zeros(1)})
    with pytest.raises(WeightsUnfit, match="is it another network's"):
        _load(_network(), theirs)


def test_weights_of_too_small_a_part_are_refused_unless_the_study_says_so() -> None:
    network, theirs = nn.Sequential(nn.Linear(9, 9), nn.Linear(10, 10), nn.Linear(10, 2)), {}
    theirs = {"0.weight": torch.ones(9, 9), "2.weight": torch.ones(2, 10)}
    before = network.state_dict()["0.weight"].clone()
    with pytest.raises(
        WeightsPartial, match=r"40 % of net, .* 4 not in the file \(0.bias"
    ) as caught:
        _load(network, WeightsFile(theirs), head="2")
    assert caught.value.share == 81 / 200
    assert torch.equal(network.state_dict()["0.weight"], before)
    assert _load(network, WeightsFile(theirs), head="2", partial=True).share == 81 / 200
    assert torch.equal(network.state_dict()["0.weight"], theirs["0.weight"])


@pytest.mark.parametrize(("lacking", "fits"), [(10, True), (11, False)])
def test_weights_of_nine_tenths_are_those_of_the_backbone(lacking: int, fits: bool) -> None:
    """Counted by numbers, not by tensors, and without the head."""
    network = nn.ParameterDict({"a": torch.zeros(100 - lacking), "b": torch.zeros(lacking)})
    network["head"] = nn.Parameter(torch.zeros(1))
    whole = nn.ModuleDict({"body": network, "head": nn.Linear(500, 5)})
    theirs = WeightsFile({"body.a": torch.ones(100 - lacking), "body.head": torch.zeros(1)})
    if fits:
        assert _load(whole, theirs, head="head").share == pytest.approx(91 / 101)
        return
    with pytest.raises(WeightsPartial):
        _load(whole, theirs, head="head")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("resnet34", "resnet18"), ("resnet50", "resnet18"), ("resnet18", "resnet34")],
)
def test_a_deeper_or_shallower_network_is_another(theirs: str, ours: str) -> None:
    """All of a resnet18's names and shapes are those of a resnet34, which has more blocks between them."""
    models = cast(Any, importlib.import_module("torchvision.models"))
    with torch.device("meta"):
        file = WeightsFile(models.get_model(theirs).state_dict())
        network = models.get_model(ours)
    with pytest.raises(WeightsPartial) as caught:
        _load(network, file, head="fc")
    assert caught.value.share < 0.6
    state = {
        name: torch.zeros_like(one, device="cpu") for name, one in network.state_dict().items()
    }
    own = WeightsFile(state | {"decoder.weight": torch.zeros(9, 9)})
    assert _load(network.to_empty(device="cpu"), own, head="fc").share == 1


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict"])
@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_averaged_weights_go_before_those_of_the_last_step(
    tmp_path: Path, key: str, plain: str
) -> None:
    last, averaged = _network().state_dict(), _network().state_dict()
    prefixed = {f"module.{name}": value for name, value in averaged.items()}
    content = {plain: last, key: {"n_averaged": torch.tensor(3), **prefixed}}
    torch.save(content, tmp_path / "a.pth")
    file = published_weights.named_for(_network(), weights_files.read(tmp_path / "a.pth"))
    network = _network()
    report = _load(network, file)
    assert same_tensors(network.state_dict(), averaged)
    assert report.part == key
    assert f"9 tensors of file ({key}) fit" in report.in_words()


def test_averages_that_were_never_made_are_no_weights(tmp_path: Path) -> None:
    torch.save(
        {"state_dict_ema": {}, "model_ema": None, "model": {"a": torch.ones(1)}},
        tmp_path / "a.pt",
    )
    file = weights_files.read(tmp_path / "a.pt")
    assert (list(file.tensors), file.part) == (["a"], "model")


def test_what_scripts_keep_beside_the_tensors_is_set_aside(tmp_path: Path) -> None:
    parameters = type(
        "AttributeDict", (dict,), {"__module__": "lightning.pytorch.utilities.parsing"}
    )
    module = types.ModuleType(parameters.__module__)
    cast(Any, module).AttributeDict = parameters
    state, allowed = _network().state_dict(), cast(Any, torch.serialization).get_safe_globals
    allowed_before = set(allowed())
    beside = {
        "args": argparse.Namespace(lr=0.1, output=Path("/out")),
        "best": np.float64(91.7),
        "epoch": np.int64(3),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in ("lightning", "lightning.pytorch", "lightning.pytorch.utilities"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, parameters.__module__, module)
        torch.save(
            {"state_dict": state, "hyper_parameters": parameters(lr=1), **beside},
            tmp_path / "a.ckpt",
        )
    assert same_tensors(state, dict(weights_files.read(tmp_path / "a.ckpt").tensors))
    assert set(allowed()) == allowed_before


@pytest.mark.parametrize(
    "name", ["a.ckpt", "pytorch_model.bin", "model_best.pth.tar", "a.safetensors", "weights"]
)
@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_a_file_is_told_by_its_content(tmp_path: Path, name: str, kind: str) -> None:
    state, path = _network().state_dict(), tmp_path / name
    if kind == "safetensors":
        safetensors_files.write(path, state, {})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    assert same_tensors(state, dict(weights_files.read(path).tensors))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}',
            "index of a checkpoint",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
        (b"\n<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_what_people_take_for_weights_is_told_by_name(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(WeightsUnreadable, match=why):
        weights_files.read(tmp_path / "a.bin")


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_torchscript_program_is_not_run(tmp_path: Path) -> None:
    cast(Any, torch.jit).script(nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(WeightsUnreadable, match=r"TorchScript program.*save its state_dict"):
        weights_files.read(tmp_path / "a.pt")


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_published_weights_out_of_reach_are_named_with_url_path_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_dir", lambda: str(tmp_path))
    url = f"http://127.0.0.1:{_closed_port()}/resnet18-f37072fd.pth"
    with pytest.raises(WeightsUnavailable) as caught:
        published_weights.download("resnet18", url, None)
    message = str(caught.value)
    assert url in message
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert "none or to a path" in message
    assert caught.value.kind == "data_missing"
    assert socket.getdefaulttimeout() is None


def test_published_weights_in_the_cache_need_no_network(tmp_path: Path) -> None:
    (tmp_path / "net-12345678.pth").touch()
    url = "http://127.0.0.1:1/net-12345678.pth"
    assert published_weights.download("net", url, tmp_path) == tmp_path / "net-12345678.pth"


def test_a_head_is_never_taken_for_its_size_alone() -> None:
    network, theirs = _network(), _network()
    untouched = network.state_dict()["2.weight"].clone()
    report = _load(network, WeightsFile(dict(theirs.state_dict())), head="2")
    assert report.left_out == ("2.weight", "2.bias")
    assert not report.head
    assert torch.equal(network.state_dict()["2.weight"], untouched)
    assert torch.equal(network.state_dict()["0.weight"], theirs.state_dict()["0.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name_before_anything_is_changed(
    value: float,
) -> None:
    network, given = _network(), _network().state_dict()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given["1.running_var"][0] = float("inf")  # A buffer may hold what it likes.
    _load(_network(), WeightsFile(given))
    given["0.weight"][1, 2] = value
    with pytest.raises(WeightsNotFinite, match=r"1 of its tensors .* such as 0\.weight"):
        _load(network, WeightsFile(given))
    assert same_tensors(before, network.state_dict())
