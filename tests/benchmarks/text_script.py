"""The script a person would write: transformers, texts padded to `max_length`, a plain loop, all built anew per trial.

It reads one trial a line from its input and answers with the best validation accuracy.
"""

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.text_jobs import TextJob
from tests.benchmarks.worker_jobs import Stopwatch
from trimtab import lifeline

library: Any = transformers  # Its types are of many releases at once.


def loaders(job: TextJob) -> tuple[dict[str, DataLoader[Any]], int]:
    """Make the loaders of one trial, and tell the number of classes."""
    with open(job.table, newline="", encoding="utf-8") as file:  # noqa: PTH123 - as people write it
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    tokenizer: Any = library.AutoTokenizer.from_pretrained(job.folder)
    found: dict[str, DataLoader[Any]] = {}
    for part in ("train", "val"):
        own = [row for row in rows if row["split"] == part]
        encoded: Any = tokenizer(
            [row["text"] for row in own],
            padding="max_length",
            truncation=True,
            max_length=job.max_tokens,
            return_tensors="pt",
        )
        labels = torch.tensor([classes.index(row["label"]) for row in own])
        data = TensorDataset(encoded["input_ids"], encoded["attention_mask"], labels)
        found[part] = DataLoader(data, batch_size=job.batch_size, shuffle=part == "train")
    return found, len(classes)


class Classifier(nn.Module):
    """An encoder with the mean of its tokens before a linear layer."""

    def __init__(self, folder: str, classes: int) -> None:
        super().__init__()
        self.encoder: Any = library.AutoModel.from_pretrained(folder)
        self.head = nn.Linear(int(self.encoder.config.hidden_size), classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the logits."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1)
        return self.head((hidden * weights).sum(1) / weights.sum(1))


def objective(job: TextJob, folder: Path) -> float:
    """Train one configuration, keep its best weights; return its best validation accuracy."""
    torch.manual_seed(job.seed)
    parts, classes = loaders(job)
    model = Classifier(job.folder, classes)
    stages = [model.encoder.embeddings, *model.encoder.encoder.layer]
    for stage in stages[: job.frozen_stages]:
        stage.requires_grad_(False)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=job.learning_rate)
    best = 0.0
    for _ in range(job.epochs):
        model.train()
        for ids, mask, labels in parts["train"]:
            loss = nn.functional.cross_entropy(model(ids, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (accuracy := _accuracy(model, parts["val"])) > best:
            best = accuracy
            torch.save(model.state_dict(), folder / "best.pt")
    return best


def _accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    model.eval()
    right = count = 0
    with torch.no_grad():
        for ids, mask, labels in loader:
            right += int((model(ids, mask).argmax(1) == labels).sum())
            count += len(labels)
    return right / count


def main() -> None:
    """Answer a line for each line."""
    lifeline.watch(int(sys.argv[sys.argv.index("--lifeline") + 1]), lambda: os._exit(0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        watch = Stopwatch(os.getpid())
        with tempfile.TemporaryDirectory() as folder:
            accuracy = objective(TextJob(**json.loads(line)), Path(folder))
        wall_s, cpu = watch.read()
        told = {"wall_s": wall_s, "cpu_s": cpu, "accuracy": accuracy}
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
