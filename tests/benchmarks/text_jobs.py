"""What both sides of the benchmark of texts are asked to do, and tables that nobody needs to download."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LAYERS = 6
"""Layers of the published encoder; the embeddings before them are one more stage."""


@dataclass(frozen=True)
class TextJob:
    """One trial: the same configuration for both sides.

    Attributes:
        table: CSV with the columns text, label and split.
        folder: The published encoder.
        epochs: To train.
        batch_size: Texts in a step.
        learning_rate: Adam's learning rate, the same at every step.
        frozen_stages: The embeddings, then layers.
        max_tokens: The most tokens of a text.
        seed: The seed of this trial.
    """

    table: str
    folder: str
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 5e-4
    frozen_stages: int = 0
    max_tokens: int = 64
    seed: int = 0


def write(path: Path, rows: Sequence[tuple[str, str]], validation: int) -> Path:
    """Write texts with their labels; the last ones validate, and as many as ten are sealed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for place, row in enumerate(rows):
            left = len(rows) - place
            part = "test" if left <= 10 else "val" if left <= 10 + validation else "train"
            writer.writerow([*row, part])
    return path


def read(path: Path, text: str, label: str, count: int) -> list[tuple[str, str]]:
    """Return so many texts of a person's table with their labels, in an order that a seed gives."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row[text], row[label]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    return rows[:count]


def made_up(count: int) -> list[tuple[str, str]]:
    """Return sentences of 4 to 30 words, whose class one of their words tells."""
    source = random.Random(0)
    kinds = {"animal": ("cat", "dog", "horse"), "place": ("city", "river", "mountain")}
    kinds["food"] = ("bread", "cheese", "apple")
    common = [
        "the",
        "a",
        "of",
        "and",
        "in",
        "is",
        "was",
        "for",
        "on",
        "with",
        "as",
        "by",
        "at",
        "from",
        "this",
        "that",
        "it",
        "his",
        "her",
        "their",
    ]
    rows: list[tuple[str, str]] = []
    for _ in range(count):
        label = source.choice(sorted(kinds))
        words = source.choices(common, k=source.randrange(3, 30))
        words.insert(source.randrange(len(words) + 1), source.choice(kinds[label]))
        rows.append((" ".join(words), label))
    return rows


def large(path: Path, megabytes: float) -> Path:
    """Write a table of about this size, with reviews of about a thousand characters, all different."""
    source = random.Random(1)
    review = " ".join(text for text, _ in made_up(40))[:1100]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(int(megabytes * 1000)):
            begin = source.randrange(200)
            writer.writerow([f"{number} {review[begin:]}", "pn"[number % 2]])
    return path
