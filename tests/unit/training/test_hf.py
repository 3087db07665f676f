"""Encoders of transformers: what they compute is the library's, and what a recipe says means what it means elsewhere."""

import importlib
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.support.hf_folders import KINDS, hf_folder, stored
from tests.support.text_models import folder_of, tiny_texts
from tests.support.tiny import CPU, same_tensors
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import Content, open_tokenizer, sha256_of
from worker.training import safetensors_files
from worker.training.errors import Interrupted, LayersShared, LibraryMissing, TextModelUnfit
from worker.training.features import frozen_prefix
from worker.training.features.feature_cache import FeatureCache
from worker.training.loop.epochs import epochs_of
from worker.training.loop.fit import TrainingRequest, begin
from worker.training.loop.state import FitState
from worker.training.loop.training import Training, load_weights
from worker.training.model import backbones, heads, hf_halves
from worker.training.model.backbones import Backbone
from worker.training.model.card import LibraryEncoderCard, Scores
from worker.training.model.export import export, load_exported, make_card
from worker.training.model.freezing import Freezing
from worker.training.model.halves import Halves
from worker.training.model.hf_network import LibraryEncoder, layers_of
from worker.training.model.predictor import Prediction
from worker.training.model.text_network import TextNetwork
from worker.training.optim import param_groups

TEXTS: list[Content] = [
    "a good film",
    "not so bad a play played",
    ("the film was good", "bad"),
    "good",
]
SHORT = Recipe(epochs=2, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {kind: hf_folder(tmp_path_factory.mktemp("hf") / kind, kind) for kind in KINDS}


def _model(
    folder: Path, recipe: Recipe = SHORT, backbone: str = "hf", **fields: Any
) -> Backbone:
    model = Model(backbone=backbone, weights=str(folder), **fields)
    head = heads.of(recipe, "classification")
    return backbones.build(model, classes=("no", "yes"), seed=1, head=head)


def _network(model: Backbone) -> LibraryEncoder:
    assert isinstance(model.network, LibraryEncoder)
    return model.network


def _tokens(model: Backbone, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network takes of texts and a pair, padded, and which of it is no padding."""
    tokenizer = open_tokenizer(folder)
    tokens = model.input(torch.from_numpy(tokenizer.padded(tokenizer.encode(TEXTS, 16), 18)))
    return tokens, tokens[:, 0] != tokenizer.pad_id


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_pairs_get_the_hidden_states_of_the_library(
    folders: Mapping[str, Path], kind: str
) -> None:
    model = _model(folders[kind]).eval()
    tokens, real = _tokens(model, folders[kind])
    given = {"input_ids": tokens[:, 0], "attention_mask": real.long()}
    if kind in ("albert", "bert", "roformer"):
        given["token_type_ids"] = tokens[:, 1]
        assert tokens[:, 1].sum() == 2
    hf: Any = importlib.import_module("transformers")
    theirs = hf.AutoModel.from_pretrained(str(folders[kind])).eval()
    with torch.no_grad():
        wanted: torch.Tensor = theirs(**given).last_hidden_state
        found = _network(model).hidden(tokens)
        # The same text in a batch of one has no padding.
        alone = _network(model).hidden(tokens[:1, :, : int(real[0].sum())])
    assert (found - wanted)[real].abs().max() < 1e-5
    assert (found[0, : alone.shape[1]] - alone[0]).abs().max() < 1e-5


@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_our_own_reader_and_the_library_compute_the_same_bert(
    folders: Mapping[str, Path], how: str
) -> None:
    recipe = Recipe.model_validate({"pooling": how})
    ours = _model(folders["bert"], recipe, "bert").eval()
    theirs = _model(folders["bert"], recipe).eval()
    tokenizer = open_tokenizer(folders["bert"])
    texts = torch.from_numpy(tokenizer.padded(tokenizer.encode(TEXTS, 16)))
    with torch.no_grad():
        assert (ours.features(texts) - theirs.features(texts)).abs().max() < 1e-5


STAGES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "deberta-v2": (
        ("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"),
        ("encoder.layer.0",),
        ("encoder.layer.1",),
        ("encoder.layer.2",),
    ),
    "mpnet": (
        ("embeddings", "encoder.relative_attention_bias"),
        ("encoder.layer.0",),
        ("encoder.layer.1",),
        ("encoder.layer.2",),
    ),
    "modernbert": (
        ("embeddings",),
        ("layers.0",),
        ("layers.1",),
        ("layers.2", "final_norm"),
    ),
    "albert": (
        ("embeddings", "encoder.embedding_hidden_mapping_in"),
        ("encoder.albert_layer_groups",),
    ),
}


@pytest.mark.parametrize("kind", STAGES)
def test_stages_are_the_embeddings_with_all_that_the_first_layer_needs_and_each_layer(
    folders: Mapping[str, Path], kind: str
) -> None:
    model = _model(folders[kind])
    *before, last = STAGES[kind]
    named = [tuple(f"tokens.encoder.{name}" for name in stage) for stage in (*before, last)]
    assert model.stages == (*named[:-1], (*named[-1], "pooling"))
    staged = [
        name
        for stage in model.stages
        for name, _ in model.network.named_parameters()
        if backbones.is_within(name, stage)
    ]
    own = [name for name, _ in model.network.named_parameters()]
    assert sorted([*staged, "head.weight", "head.bias"]) == sorted(own)


def _begun(folder: Path, recipe: Recipe, **request: Any) -> Training:
    model = _model(folder, recipe)
    texts = tiny_texts(folder)
    return begin(TrainingRequest(model, texts, recipe, seed=3, device=CPU, **request))


def _curve(training: Training) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.metrics["loss"]) for epoch in epochs_of(training)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("deberta-v2", {"ema_decay": 0.7, "layer_decay": 0.7, "optimizer": "muon"}),
        ("deberta-v2", {"reinit_layers": 2, "lora_rank": 2, "word_dropout": 0.5}),
        ("modernbert", {"frozen_stages": 3, "unfreeze_every": 1, "pooling": "cls"}),
    ],
    ids=str,
)
def test_a_training_that_is_left_goes_on_with_the_bits_of_the_uninterrupted_one(
    folders: Mapping[str, Path], kind: str, options: Mapping[str, Any], tmp_path: Path
) -> None:
    folder, recipe = folders[kind], SHORT.model_copy(update=options)
    whole = _begun(folder, recipe)
    wanted = _curve(whole)
    steps = iter(range(100))

    def leave_in_the_second_epoch() -> None:
        if next(steps) == 9:
            raise Interrupted

    left = _begun(folder, recipe, each_batch=leave_in_the_second_epoch)
    with pytest.raises(Interrupted):
        _curve(left)
    left.state().save(tmp_path / "state")
    resumed = _begun(folder, recipe, resume=FitState.load(tmp_path / "state"))
    assert _curve(resumed) == wanted[-1:]
    assert same_tensors(dict(resumed.state().weights), dict(whole.state().weights))

    again = _model(folder, recipe)
    freezing = Freezing(again, recipe)
    freezing.redraw(3)
    load_weights(freezing, whole.state(whole=False))
    texts = torch.from_numpy(tiny_texts(folder).validation.inputs)
    assert torch.equal(again.eval()(texts), whole.learner.model.eval()(texts))


def test_a_frozen_encoder_is_computed_once_and_its_dropout_is_off(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": 4, "precision": "float32"})
    cache = FeatureCache(tmp_path)
    kept = _begun(folders["deberta-v2"], recipe, features_cache=cache)
    assert kept.may_group
    found = _curve(kept)
    assert len(list(tmp_path.iterdir())) >= 2
    assert found == _curve(_begun(folders["deberta-v2"], recipe))
    partly = recipe.model_copy(update={"frozen_stages": 2})
    assert not _begun(folders["deberta-v2"], partly, features_cache=cache).may_group


def _cut(model: Backbone, frozen: int) -> Halves | None:
    freezing = Freezing(model, Recipe(frozen_stages=frozen))
    freezing.freeze()
    freezing.training_mode()
    return frozen_prefix.cut(model, frozen)


def _gradients(model: Backbone, forward: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    functional.cross_entropy(forward(), torch.tensor([0, 1, 1, 0])).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.network.named_parameters()
        if parameter.grad is not None
    }


def _noting(called: set[int], number: int) -> Callable[..., None]:
    def hook(*_: object) -> None:
        called.add(number)

    return hook


@pytest.mark.parametrize(
    ("kind", "frozen"),
    [("deberta-v2", 2), ("deberta-v2", 3), ("mpnet", 3), ("xlm-roberta", 2), ("modernbert", 3), ("bert", 2), ("roformer", 2)],
)  # fmt: skip
def test_both_halves_learn_what_the_whole_does_and_frozen_layers_are_not_called_again(
    folders: Mapping[str, Path], kind: str, frozen: int
) -> None:
    model = _model(folders[kind])
    halves = _cut(model, frozen)
    assert halves is not None
    tokens, _ = _tokens(model, folders[kind])
    wanted = _gradients(model, lambda: model.network(tokens))
    with torch.no_grad():
        kept = halves.kept(tokens)
    called: set[int] = set()
    _, layers = layers_of(_network(model).tokens.encoder)
    for number, layer in enumerate(layers):
        inner = next(layer.children())
        inner.register_forward_pre_hook(_noting(called, number))
    assert same_tensors(_gradients(model, lambda: halves.rest(kept)), wanted)
    assert wanted
    assert called == set(range(frozen - 1, 3))


def test_a_network_that_asks_for_more_than_the_last_frozen_layer_gives_is_not_cut(
    tmp_path: Path,
) -> None:
    # Its convolution takes the embeddings, beside what the first layer makes of them.
    folder = hf_folder(tmp_path / "convolution", conv_kernel_size=3, conv_act="gelu")
    assert _cut(_model(folder), 2) is None
    assert _cut(_model(folder), 3) is not None
    # Embeddings alone: the second half would look them up again.
    assert _cut(_model(folder), 1) is None


def test_a_network_that_draws_lots_before_its_last_frozen_layer_is_not_cut(
    folders: Mapping[str, Path],
) -> None:
    model = _model(folders["mpnet"])

    def drop(module: torch.nn.Module, given: Any) -> None:
        if module.training:
            torch.rand(())

    _network(model).tokens.encoder.register_forward_pre_hook(drop)
    state = torch.get_rng_state()
    assert _cut(model, 2) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_partly_frozen_encoders_train_alike_from_the_cache_without_it_and_as_a_whole(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SHORT.model_copy(update={"frozen_stages": 3, "precision": "float32"})
    folder, cache = folders["modernbert"], FeatureCache(tmp_path)
    found = _curve(_begun(folder, recipe, features_cache=cache))
    assert len(list(tmp_path.iterdir())) >= 2
    assert found == _curve(_begun(folder, recipe, features_cache=cache))
    assert found == _curve(_begun(folder, recipe))

    def uncut(*_: object) -> None: ...

    monkeypatch.setattr(hf_halves, "cut", uncut)
    # Batches are padded otherwise, which rounds otherwise.
    whole = _curve(_begun(folder, recipe))
    assert torch.tensor(found) == pytest.approx(torch.tensor(whole), rel=1e-4)


def test_last_layers_begin_at_random_as_far_as_they_are_trained(
    folders: Mapping[str, Path],
) -> None:
    recipe = Recipe(reinit_layers=2, frozen_stages=3)
    model, plain = _model(folders["mpnet"]), _model(folders["mpnet"])
    Freezing(model, recipe).redraw(5)
    ours, theirs = model.network.state_dict(), plain.network.state_dict()
    changed = [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
    assert changed
    assert all(name.startswith("tokens.encoder.encoder.layer.2.") for name in changed)
    assert 0.01 < ours["tokens.encoder.encoder.layer.2.output.dense.weight"].std() < 0.03
    with pytest.raises(LayersShared, match="share their weights: set it to 0"):
        Freezing(_model(folders["albert"]), Recipe(reinit_layers=1)).redraw(5)


def test_positions_that_the_library_does_not_train_stay_as_they_are(
    folders: Mapping[str, Path],
) -> None:
    training = _begun(folders["roformer"], Recipe(epochs=1, batch_size=8, learning_rate=1e-2))
    own = _network(training.learner.model).state_dict()
    before = {name: value.clone() for name, value in own.items()}
    list(epochs_of(training))
    kept = [name for name, value in own.items() if torch.equal(value, before[name])]
    assert kept == ["tokens.encoder.encoder.embed_positions.weight"]
    tensors, _ = safetensors_files.read(folders["roformer"] / "model.safetensors")
    assert torch.equal(own[kept[0]], tensors["encoder.embed_positions.weight"])


def test_lora_reaches_all_linear_layers_and_biases_and_norms_do_not_decay(
    folders: Mapping[str, Path],
) -> None:
    low_rank = Freezing(_model(folders["mpnet"]), Recipe(lora_rank=2)).low_rank(0)
    assert low_rank is not None
    within = {name.removesuffix(".weight.lora_A") for name in low_rank.factors if "_A" in name}
    parts = ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o")
    parts = (*parts, "intermediate.dense", "output.dense")
    layers = (f"tokens.encoder.encoder.layer.{number}" for number in range(3))
    assert within == {f"{layer}.{part}" for layer in layers for part in parts}
    recipe = Recipe(weight_decay=0.1, layer_decay=0.5)
    groups = param_groups.of_backbone(Freezing(_model(folders["mpnet"]), recipe))
    rules = {name: group.rule for group in groups for name in group.parameters}
    assert all(
        bool(rule.weight_decay) != (name.endswith("bias") or "LayerNorm" in name)
        for name, rule in rules.items()
        if "relative" not in name
    )
    assert rules["tokens.encoder.embeddings.word_embeddings.weight"].rate == 0.5**4


@pytest.mark.parametrize(
    ("kind", "fields", "kept"),
    [
        ("mpnet", {"layers": 2}, [0, 1]),
        ("mpnet", {"layers": 1}, [0]),
        ("modernbert", {"layers": 2}, [0, 2]),
        ("modernbert", {"layers": 2, "layers_kept": "first"}, [0, 1]),
    ],
)
def test_a_student_keeps_some_of_the_layers_and_what_is_said_of_each(
    kind: str, fields: dict[str, Any], kept: list[int], tmp_path: Path
) -> None:
    folder = hf_folder(tmp_path, kind, num_hidden_layers=4 if kind == "modernbert" else 3)
    network = _network(_model(folder, **fields))
    tensors, _ = safetensors_files.read(folder / "model.safetensors")
    prefix = "layers" if kind == "modernbert" else "encoder.layer"
    part = "mlp.Wo" if kind == "modernbert" else "output.dense"
    found = network.tokens.encoder.state_dict()
    for place, number in enumerate(kept):
        one = found[f"{prefix}.{place}.{part}.weight"]
        assert torch.equal(one, tensors[f"{prefix}.{number}.{part}.weight"])
    assert len(network.stages) == len(kept) + 1
    if kind == "modernbert":
        assert isinstance(network.shape, LibraryEncoderCard)
        every = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
        assert network.shape.config["layer_types"] == [every[number] for number in kept]


def test_layers_that_are_too_few_or_shared_cannot_be_left_out(
    folders: Mapping[str, Path],
) -> None:
    with pytest.raises(
        TextModelUnfit, match=r"it has 3 layers, and `model\.layers` asks for 4"
    ):
        _model(folders["mpnet"], layers=4)
    with pytest.raises(TextModelUnfit, match="its layers share their weights"):
        _model(folders["albert"], layers=1)


def _exported(folder: Path, path: Path) -> Backbone:
    texts, recipe = tiny_texts(folder), Recipe(epochs=1, batch_size=8, learning_rate=1e-2)
    training = begin(TrainingRequest(_model(folder), texts, recipe, seed=0, device=CPU))
    list(epochs_of(training))
    model = training.learner.model
    export(path, model, card=make_card(model, texts, recipe=recipe, seed=0, scores=Scores()))
    return model.eval()


def test_an_exported_file_predicts_texts_without_the_folder_and_says_which_extra_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = hf_folder(tmp_path / "deberta"), tmp_path / "model.safetensors"
    trained = _exported(folder, path)
    tokenizer = open_tokenizer(folder)
    texts = torch.from_numpy(tokenizer.padded(tokenizer.encode(TEXTS, 16)))
    shutil.rmtree(folder)
    found = load_exported(path).predict(TEXTS)
    with torch.no_grad():
        wanted = trained(texts).softmax(dim=1)[:, 1]
    probabilities = [one.probabilities["yes"] for one in found if isinstance(one, Prediction)]
    assert probabilities == pytest.approx(wanted.tolist(), abs=1e-5)
    assert str(tmp_path) not in str(safetensors_files.read_metadata(path))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LibraryMissing, match=r"pip install 'trimtab\[hf\]' on this machine"):
        load_exported(path)


def test_weights_of_half_precision_become_whole_ones(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path, dtype="float16")
    stored(folder, lambda tensors: tensors.update({n: t.half() for n, t in tensors.items()}))
    model = _model(folder)
    assert {one.dtype for one in model.network.parameters()} == {torch.float32}
    tensors, _ = safetensors_files.read(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(_network(model).tokens.encoder.state_dict()[name], tensors[name].float())


def test_texts_are_read_as_far_as_the_positions_reach(folders: Mapping[str, Path]) -> None:
    # XLM-R counts positions from behind the padding's own number, and DeBERTa has no table of them.
    for kind, positions in (("xlm-roberta", 19), ("deberta-v2", 20), ("mpnet", 18)):
        model = Model(backbone="hf", weights=str(folders[kind]))
        wanted = TokenSpec(folders[kind], sha256_of(folders[kind]), positions)
        assert backbones.input_spec(model, Recipe()) == wanted
        network = _model(folders[kind]).eval()
        assert network(torch.full((1, 30), 7)).shape == (1, 2)


def test_a_network_of_ours_tells_its_shape_whoever_wrote_its_layers(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    for model in (_model(folders["albert"]), _model(folder_of(tmp_path), backbone="bert")):
        assert isinstance(model.network, TextNetwork)
        assert model.shape == model.network.shape
    assert _network(_model(folders["albert"])).shape.shares_layers
