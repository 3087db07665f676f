"""Published folders of encoders that only transformers knows, with random weights; small enough for tests."""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.support.texts import word_pieces
from worker.data.text.tokenizer import open_tokenizer
from worker.training import safetensors_files

_SMALL: Mapping[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "pad_token_id": 0,
}
_RELATIVE: Mapping[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "deberta-v2": {**_RELATIVE, "norm_rel_ebd": "layer_norm", "position_buckets": 4},
    "albert": {"embedding_size": 8},
    "convbert": {"embedding_size": 16},
    "squeezebert": {"embedding_size": 16},
    "xlm-roberta": {"type_vocab_size": 1},
    "modernbert": {"local_attention": 4}
    | dict.fromkeys(("bos_token_id", "cls_token_id"), 2)
    | dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
}
KINDS = ("deberta-v2", "albert", "mpnet", "xlm-roberta", "modernbert", "roformer", "bert")
"""Kinds of encoders; `bert` is the one that our own reader knows as well."""


def hf_folder(path: Path, kind: str = "deberta-v2", **config: Any) -> Path:
    """Write a folder as transformers saves it, and the tokenizer of `texts.word_pieces`.

    Args:
        path: The folder.
        kind: The word by which transformers knows the network.
        config: Fields of its configuration.
    """
    hf: Any = importlib.import_module("transformers")
    made = hf.CONFIG_MAPPING[kind](**{**_SMALL, **_OWN.get(kind, {}), **config})
    torch.manual_seed(0)
    network = hf.AutoModel.from_config(made)
    with torch.no_grad():
        # Larger weights than those of a training's beginning, so that each shows in what the network computes.
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    network.save_pretrained(path)
    word_pieces(path)
    (path / "tokenizer.json").write_text(open_tokenizer(path).json)
    (path / "vocab.txt").unlink()
    return path


def configured(folder: Path, **fields: object) -> None:
    """Change fields of a folder's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def stored(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a folder's weights."""
    tensors, _ = safetensors_files.read(folder / "model.safetensors")
    change(tensors)
    safetensors_files.write(folder / "model.safetensors", tensors, {"format": "pt"})
