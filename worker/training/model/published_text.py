"""Encoders as people publish them: a folder with a configuration, weights and a tokenizer.

Four kinds of models have one network here: BERT (MiniLM is one), DistilBERT, RoBERTa, and the discriminator of ELECTRA.
Their weights get this project's names; all are read as float32, whatever they were saved in.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from torch import Tensor, nn

from trimtab.contract.tasks import Model
from worker.training.errors import (
    TextModelMissing,
    TextModelUnfit,
    TextModelUnreadable,
    WeightsNotFinite,
)
from worker.training.model import weights_files
from worker.training.model.card import EncoderCard
from worker.training.model.published_weights import WeightsReport, is_weight

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the files of weights, the first found before the others."""
KINDS = ("bert", "distilbert", "electra", "roberta")
"""What `model_type` of a configuration may be."""

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_LAYER = re.compile(r"(?:encoder|transformer)\.layer\.(\d+)\.(.+)\.(weight|bias)")
_OF_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
    "attention.q_lin": "query",
    "attention.k_lin": "key",
    "attention.v_lin": "value",
    "attention.out_lin": "output",
    "sa_layer_norm": "attention_norm",
    "ffn.lin1": "up",
    "ffn.lin2": "down",
    "output_layer_norm": "norm",
}
"""Parts of a layer by their published names; the second half is DistilBERT's."""
_OF_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "embeddings.words",
    "embeddings.position_embeddings.weight": "embeddings.positions",
    "embeddings.token_type_embeddings.weight": "embeddings.types",
    "embeddings.LayerNorm.weight": "embeddings.norm.weight",
    "embeddings.LayerNorm.bias": "embeddings.norm.bias",
    "embeddings_project.weight": "embeddings.project.weight",
    "embeddings_project.bias": "embeddings.project.bias",
}


def read_shape(folder: Path) -> EncoderCard:
    """Read what network a folder holds.

    Raises:
        TextModelMissing: There is no such folder.
        TextModelUnreadable: It is a file, or has no legible configuration.
        TextModelUnfit: The configuration is of a network that is not known here.
    """
    check_folder(folder)
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise TextModelUnfit(
            folder,
            f"its model_type is {kind!r}, and {', '.join(KINDS)} are known; `backbone: hf` reads those of transformers",
        )
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get(
        "is_decoder"
    ):
        raise TextModelUnfit(folder, "its positions are relative ones, or it is a decoder")
    try:
        return EncoderCard.model_validate(_shape(str(kind), config))
    except (KeyError, TypeError, ValidationError) as error:
        raise TextModelUnreadable(folder / CONFIG, first_line(error)) from error


def check_folder(folder: Path) -> None:
    """See that there is a folder.

    Raises:
        TextModelMissing: There is nothing.
        TextModelUnreadable: It is a file, such as the weights alone.
    """
    if folder.is_file():
        raise TextModelUnreadable(folder, "it is a file")
    if not folder.is_dir():
        raise TextModelMissing(folder)


def check_layers(folder: Path, layers: int, model: Model) -> None:
    """See that a folder's network has as many layers as a model keeps.

    Raises:
        TextModelUnfit: It has fewer.
    """
    if model.layers is not None and model.layers > layers:
        reason = f"it has {layers} layers, and `model.layers` asks for {model.layers}"
        raise TextModelUnfit(folder, reason)


def read_config(folder: Path) -> Mapping[str, Any]:
    """Read a folder's config.json.

    Raises:
        TextModelUnreadable: There is none, or it is no JSON object.
    """
    path = folder / CONFIG
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TextModelUnreadable(path, first_line(error)) from error
    if not isinstance(found, dict):
        raise TextModelUnreadable(path, "it is no JSON object")
    return cast(Mapping[str, Any], found)


def _shape(kind: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if kind == "distilbert":
        return _distilbert(config)
    pad_id = config.get("pad_token_id", 0)
    # RoBERTa counts positions from behind the padding's own number.
    before = pad_id + 1 if kind == "roberta" else 0
    return {
        "vocab_size": config["vocab_size"],
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "feed_forward": config["intermediate_size"],
        "activation": _ACTIVATIONS.get(config.get("hidden_act", "gelu")),
        "positions": config["max_position_embeddings"] - before,
        "first_position": before,
        "token_types": config.get("type_vocab_size", 2),
        "embedding_width": config.get("embedding_size", config["hidden_size"]),
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "pad_id": pad_id,
    }


def _distilbert(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "width": config["dim"],
        "layers": config["n_layers"],
        "heads": config["n_heads"],
        "feed_forward": config["hidden_dim"],
        "activation": _ACTIVATIONS.get(config.get("activation", "gelu")),
        "positions": config["max_position_embeddings"],
        "first_position": 0,
        "token_types": 0,
        "embedding_width": config["dim"],
        "norm_eps": 1e-12,
        "dropout": config.get("dropout", 0.1),
        "attention_dropout": config.get("attention_dropout", 0.1),
        "pad_id": config.get("pad_token_id", 0),
    }


def load_into(network: nn.Module, folder: Path, model: Model) -> WeightsReport:
    """Copy a folder's weights into an encoder, all but the head's.

    Args:
        network: The encoder, of the shape that `of_model` returns.
        folder: The folder.
        model: Says which of its layers are kept.

    Raises:
        TextModelUnreadable: It has no file of weights.
        TextModelUnfit: Its weights lack some of the network's, or are of other shapes.
        WeightsNotFinite: Some are infinite or no numbers.
    """
    path = weights_file(folder)
    kept = kept_layers(read_shape(folder).layers, model)
    named, unused = _renamed(weights_files.read(path).tensors, kept)
    own = cast(dict[str, Tensor], network.state_dict())
    wanted = [name for name in own if not name.startswith("head.")]
    missing = [name for name in wanted if name not in named]
    if missing:
        raise TextModelUnfit(folder, f"{path.name} lacks {some(missing)} of its network")
    other = [name for name in wanted if named[name].shape != own[name].shape]
    if other:
        raise TextModelUnfit(
            folder, f"{path.name} has {some(other)} in other shapes than {CONFIG}"
        )
    if quantised := [name for name in wanted if not is_weight(named[name])]:
        raise TextModelUnfit(
            folder, f"{path.name} has {some(quantised)} as integers or in 8 bits"
        )
    if broken := [name for name in wanted if not named[name].isfinite().all()]:
        raise WeightsNotFinite(str(path), broken)
    # Whatever they were saved in, the copy is in the network's own float32.
    network.load_state_dict({name: named[name] for name in wanted}, strict=False)
    return WeightsReport(
        str(path), matched=tuple(wanted), missing=("head.weight", "head.bias"), unused=unused
    )


def weights_file(folder: Path, names: Sequence[str] = _WEIGHTS) -> Path:
    """Return the first of a folder's files that may hold its weights.

    Args:
        folder: The folder.
        names: The names of such files, those that go before others first.

    Raises:
        TextModelUnreadable: It has none of them.
    """
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise TextModelUnreadable(folder, f"it holds none of {', '.join(names)}")
    return found[0]


def kept_layers(layers: int, model: Model) -> Sequence[int]:
    """Return the numbers of the layers that a model keeps of so many, in order."""
    count = layers if model.layers is None else model.layers
    if model.layers_kept == "first":
        return range(count)
    return [number * layers // count for number in range(count)]


def _renamed(
    tensors: Mapping[str, Tensor], kept: Sequence[int]
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return tensors by their names in an `Encoder`, and the published names of the others."""
    named: dict[str, Tensor] = {}
    unused: list[str] = []
    for published, tensor in tensors.items():
        name = _name(published, kept)
        if name is None:
            unused.append(published)
        else:
            named[name] = tensor
    return named, tuple(unused)


def _name(published: str, kept: Sequence[int]) -> str | None:
    # Old files call a normalisation's scale gamma and its shift beta.
    plain = re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", published))
    plain = plain.removeprefix("module.")
    for kind in KINDS:
        plain = plain.removeprefix(f"{kind}.")
    if (known := _OF_EMBEDDINGS.get(plain)) is not None:
        return known
    found = _LAYER.fullmatch(plain)
    if found is None or found[2] not in _OF_LAYER or int(found[1]) not in kept:
        return None
    return f"layers.{list(kept).index(int(found[1]))}.{_OF_LAYER[found[2]]}.{found[3]}"


def some(names: Sequence[str]) -> str:
    """Return up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
