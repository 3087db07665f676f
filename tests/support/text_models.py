"""Published folders of encoders, with random weights; small enough for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tests.support.texts import WORDS, word_pieces
from worker.data import Split, TaskData
from worker.data.text.tokenizer import open_tokenizer
from worker.training import safetensors_files
from worker.training.model import bert, published_text
from worker.training.model.card import TokenCard
from worker.training.seeding import seeded

SMALL: Mapping[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
"""A configuration of BERT's; the vocabulary of `texts.word_pieces` has 16 words."""
FILLERS: Sequence[str] = ("film", "a", "the", "was", "so")


def folder_of(
    path: Path, *, seed: int = 0, words: tuple[str, ...] = WORDS, **config: Any
) -> Path:
    """Write a folder of a BERT with random weights, without transformers.

    Args:
        path: The folder.
        seed: The seed of the weights.
        words: The words of its vocabulary.
        config: Fields of config.json that differ from `SMALL`.
    """
    word_pieces(path, words)
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **SMALL, **config}))
    with seeded(seed):
        network = bert.Encoder(published_text.read_shape(path), 2)
    # Larger weights than those of a training's beginning, so that each of them shows in what the network computes.
    tensors = {
        name: _random(tensor.shape, seed + place) + ("LayerNorm.weight" in name)
        for place, (name, tensor) in enumerate(_published(network.state_dict()).items())
    }
    safetensors_files.write(path / "model.safetensors", tensors, {"format": "pt"})
    return path


def _random(shape: torch.Size, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def _published(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors of an `Encoder` by the names under which BERT publishes them."""
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm": "output.LayerNorm",
    }
    tables = {
        "embeddings.words": "embeddings.word_embeddings.weight",
        "embeddings.positions": "embeddings.position_embeddings.weight",
        "embeddings.types": "embeddings.token_type_embeddings.weight",
        "embeddings.norm.weight": "embeddings.LayerNorm.weight",
        "embeddings.norm.bias": "embeddings.LayerNorm.bias",
    }
    found: dict[str, Any] = {}
    for name, tensor in state.items():
        if name in tables:
            found[tables[name]] = tensor
        elif name.startswith("layers."):
            _, number, part, kind = name.split(".")
            found[f"encoder.layer.{number}.{parts[part]}.{kind}"] = tensor
    return found


def tiny_texts(folder: Path, count: int = 48) -> TaskData:
    """Return texts of 3 to 10 word pieces, as they are stored: those with `good` are of the class yes, those with `bad` are not.

    Args:
        folder: The folder of the tokenizer (`folder_of`).
        count: The number of texts to learn from; a third of it validates.
    """
    random = Random(0)
    labels = [place % 2 for place in range(count + count // 3)]
    random.shuffle(labels)
    texts: list[str] = []
    for label in labels:
        words = random.choices(FILLERS, k=random.randrange(8))
        words.insert(random.randrange(len(words) + 1), ("bad", "good")[label])
        texts.append(" ".join(words))
    tokenizer = open_tokenizer(folder)
    stored = tokenizer.padded(tokenizer.encode(texts, 12))
    return TaskData(
        train=Split(stored[:count], np.array(labels[:count])),
        validation=Split(stored[count:], np.array(labels[count:])),
        classes=("no", "yes"),
        sha256="0" * 64,
        counts={"train": count, "validation": count // 3, "test": 0},
        key="texts",
        modality="text",
    )


def a_token_card(positions: int) -> TokenCard:
    """A layer before a network of twenty word pieces and two token types."""
    return TokenCard(
        kind="tokens",
        sha256="0" * 64,
        vocab_size=20,
        pad_id=0,
        cls_id=2,
        sep_id=3,
        unk_id=1,
        token_types=2,
        positions=positions,
    )
