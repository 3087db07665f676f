"""Encoders of transformers, each from a folder as it is published: for those that our own reader does not know.

transformers is an extra (`trimtab[hf]`). Its import takes seconds, and whoever names none of its models does without.
Only classes of the library itself are built: code that a folder brings is never run, and nothing is fetched.
"""

import importlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from trimtab.contract.backbones import HF
from trimtab.contract.tasks import Model
from worker.training.errors import (
    LibraryMissing,
    TextModelUnfit,
    TextModelUnreadable,
    TrainingError,
    WeightsNotFinite,
    is_out_of_memory,
)
from worker.training.model import published_text
from worker.training.model.architecture import Architecture
from worker.training.model.card import LibraryEncoderCard
from worker.training.model.hf_network import LibraryEncoder, fault_of, layers_of
from worker.training.model.inputs import InputLayer
from worker.training.model.published_weights import WeightsReport

UNBOUNDED = 1_000_000
"""Positions of a network that names none: it takes texts of any length."""
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_FOREIGN = ("auto_map", "attn_implementation", "dtype", "torch_dtype", "transformers_version")
"""Fields of a configuration that are left out: they name code of others, or how the library shall compute."""


def read_shape(folder: Path) -> LibraryEncoderCard:
    """Read what network a folder holds.

    Raises:
        TextModelMissing: There is no such folder.
        TextModelUnreadable: It is a file, or has no legible configuration.
        TextModelUnfit: The library does not know the network, or it is no encoder of texts.
        LibraryMissing: transformers is not installed.
    """
    published_text.check_folder(folder)
    told = published_text.read_config(folder)
    if (reason := _misfit(told)) is not None:
        raise TextModelUnfit(folder, reason)
    config = _cleaned(told)
    with _refusing(folder), torch.device("meta"):
        return _shape(_encoder(str(told["model_type"]), config))


def _misfit(config: Mapping[str, Any]) -> str | None:
    kind, library = config.get("model_type"), _library()
    if kind not in library.CONFIG_MAPPING:
        return f"its model_type is {kind!r}, which {_release(library)} does not know, and code that a folder brings is never run"
    if config.get("is_encoder_decoder"):
        return "it is an encoder with a decoder, and an encoder alone is needed"
    if config.get("quantization_config"):
        return "its weights are quantised, and training needs them whole"
    return None


def of_some_layers(folder: Path, model: Model) -> LibraryEncoderCard:
    """Return the shape of the network that a study begins with: a folder's, or that of some of its layers.

    Raises:
        TextModelUnfit: It has fewer layers, or one that texts pass several times; and what `read_shape` raises.
    """
    shape = read_shape(folder)
    if model.layers is None:
        return shape
    if shape.shares_layers:
        raise TextModelUnfit(
            folder,
            "its layers share their weights, so that `model.layers` cannot leave some out",
        )
    published_text.check_layers(folder, shape.layers, model)
    kept = published_text.kept_layers(shape.layers, model)
    with _refusing(folder), torch.device("meta"):
        return _shape(_encoder(shape.model_type, _with_layers(shape, kept)))


def _with_layers(shape: LibraryEncoderCard, kept: Sequence[int]) -> Mapping[str, Any]:
    """Return a configuration of some layers: what it says of each layer, it then says of those that are kept."""
    count = shape.layers

    def shortened(value: object) -> object:
        if not isinstance(value, list):
            return value
        told = cast("list[object]", value)
        return [told[number] for number in kept] if len(told) == count else told

    shorter = {name: shortened(value) for name, value in shape.config.items()}
    names = _library().CONFIG_MAPPING[shape.model_type].attribute_map
    return {**shorter, names.get("num_hidden_layers", "num_hidden_layers"): len(kept)}


def architecture(
    shape: LibraryEncoderCard, classes: int, input_layer: InputLayer, tokenizer: str
) -> Architecture:
    """Build an encoder with random weights; its stages are the embeddings and each layer.

    Args:
        shape: Its shape.
        classes: The number of outputs of its head.
        input_layer: The layer before it.
        tokenizer: The tokenizer of its vocabulary, as JSON.

    Raises:
        LibraryMissing: transformers is not installed.
    """
    network = LibraryEncoder(shape, _encoder(shape.model_type, shape.config), classes)
    return Architecture(
        network=network,
        head="head",
        stages=network.stages,
        input=input_layer,
        whole=("tokens",),
        tokenizer=tokenizer,
    )


def of_folder(
    folder: Path,
    shape: LibraryEncoderCard,
    classes: int,
    input_layer: InputLayer,
    tokenizer: str,
) -> Architecture:
    """Build an encoder as `architecture` does, and try it: nobody has tried this folder's network before.

    Raises:
        TextModelUnfit: The library cannot compute it as an encoder, or its vectors of a text would mislead.
        LibraryMissing: transformers is not installed.
    """
    with _refusing(folder):
        built = architecture(shape, classes, input_layer, tokenizer)
        reason = fault_of(cast(LibraryEncoder, built.network))
    if reason is not None:
        raise TextModelUnfit(folder, reason)
    return built


def load_into(network: LibraryEncoder, folder: Path, model: Model) -> WeightsReport:
    """Copy a folder's weights into an encoder, all but the head's, whatever precision they were saved in.

    Args:
        network: The encoder, of the shape that `of_some_layers` returns.
        folder: The folder.
        model: Says which of its layers are kept.

    Raises:
        TextModelUnreadable: It has no legible file of weights.
        TextModelUnfit: Its weights lack some of the network's, or are of other shapes.
        WeightsNotFinite: Some are infinite or no numbers.
    """
    path = published_text.weights_file(folder, _WEIGHTS)
    shape = read_shape(folder)
    whole, unfit, unused = _published(folder, path, shape)
    kept = published_text.kept_layers(shape.layers, model)
    own = cast(dict[str, Tensor], network.tokens.encoder.state_dict())
    layers, _ = layers_of(network.tokens.encoder)
    source = {name: _published_name(name, layers, kept) for name in own}
    needed = [name for name in own if f"tokens.encoder.{name}" not in network.unused]
    for names, problem in unfit:
        if found := [source[name] for name in needed if source[name] in names]:
            reason = f"{path.name} {problem.format(published_text.some(found))}"
            raise TextModelUnfit(folder, reason)
    taken = {name: whole[source[name]] for name in own}
    if broken := [name for name in needed if not taken[name].isfinite().all()]:
        raise WeightsNotFinite(str(path), broken)
    network.tokens.encoder.load_state_dict(taken)
    return WeightsReport(
        str(path), matched=tuple(own), missing=("head.weight", "head.bias"), unused=unused
    )


_Unfit = Sequence[tuple[frozenset[str], str]]


def _published(
    folder: Path, path: Path, shape: LibraryEncoderCard
) -> tuple[Mapping[str, Tensor], _Unfit, tuple[str, ...]]:
    """Let the library read a folder: it knows old names, and weights in several files.

    Returns:
        The tensors by their names in the library's network; names of those that are no folder's, with the reason; and
        names in the folder that no network has.
    """
    try:
        with _quiet():
            encoder, info = _library().AutoModel.from_pretrained(
                str(folder),
                config=_configuration(shape.model_type, shape.config),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TextModelUnreadable(path, published_text.first_line(error)) from error
    other = frozenset(str(key[0]) for key in info["mismatched_keys"])
    unfit = [
        (frozenset(map(str, info["missing_keys"])) - other, "lacks {} of its network"),
        (other, "has {} in other shapes than config.json"),
    ]
    return encoder.state_dict(), unfit, tuple(sorted(map(str, info["unexpected_keys"])))


def _published_name(name: str, layers: str, kept: Sequence[int]) -> str:
    """Return the name that a tensor of a network of some layers has in the whole one."""
    if not name.startswith(f"{layers}."):
        return name
    number, _, rest = name.removeprefix(f"{layers}.").partition(".")
    return f"{layers}.{kept[int(number)]}.{rest}"


def _shape(encoder: Any) -> LibraryEncoderCard:
    config = encoder.config
    _, layers = layers_of(encoder)
    table = getattr(encoder.get_input_embeddings(), "weight", None)
    if table is None:
        raise LookupError("its table of word pieces is not found")
    return LibraryEncoderCard(
        kind="hf",
        library=_release(_library()),
        model_type=config.model_type,
        config=_cleaned(json.loads(config.to_json_string(use_diff=False))),
        vocab_size=len(table),
        width=config.hidden_size,
        layers=len(layers),
        shares_layers=len(layers) != config.num_hidden_layers,
        positions=_positions(encoder),
        token_types=getattr(config, "type_vocab_size", None) or 0,
        pad_id=config.pad_token_id,
    )


def _positions(encoder: Any) -> int:
    """Return the most word pieces that a network takes."""
    most = getattr(encoder.config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return UNBOUNDED
    for name, module in encoder.named_modules():
        # RoBERTa and its like count positions from behind the padding's own number.
        is_table = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if is_table and module.padding_idx is not None:
            return most - module.padding_idx - 1
    return most


def _cleaned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a configuration whatever is not about the network's layers."""
    return {
        name: value
        for name, value in config.items()
        if name not in _FOREIGN and not name.startswith("_")
    }


def _encoder(model_type: str, config: Mapping[str, Any]) -> nn.Module:
    """Build the library's network with random weights, without what only some other head needs."""
    with _quiet():
        encoder = _library().AutoModel.from_config(_configuration(model_type, config))
    if getattr(encoder, "pooler", None) is not None:
        # Some of the library's code calls it without asking whether there is one.
        encoder.pooler = nn.Identity()
    _fix(encoder)
    return encoder


def _fix(encoder: nn.Module) -> None:
    """Make buffers of the parameters that the library does not train, such as positions that are sines."""
    for module in encoder.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.data)


def _configuration(model_type: str, config: Mapping[str, Any]) -> Any:
    with _quiet():
        return _library().CONFIG_MAPPING[model_type].from_dict(dict(config))


@contextmanager
def _refusing(folder: Path) -> Generator[None]:
    """Say in words of ours that the library, whose errors are of every class, cannot build or call a network."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TextModelUnfit(folder, published_text.first_line(error)) from error


@contextmanager
def _quiet() -> Generator[None]:
    """Let the library say nothing: what there is to say, errors and the record say."""
    words = _library().logging
    level, had_bar = words.get_verbosity(), words.is_progress_bar_enabled()
    words.set_verbosity_error()
    words.disable_progress_bar()
    try:
        yield
    finally:
        words.set_verbosity(level)
        if had_bar:
            words.enable_progress_bar()


def _release(library: Any) -> str:
    return f"transformers {library.__version__}"


def _library() -> Any:
    """Return the library, which types its parts too loosely to be of use."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise LibraryMissing(HF, "transformers", "hf") from error
