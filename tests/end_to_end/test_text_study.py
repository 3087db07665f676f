"""A study of texts through every room: a table of sentences, a folder of a published encoder, a model that predicts."""

import csv
import shutil
from pathlib import Path
from random import Random

from tests.support.documents import a_study_document
from tests.support.text_models import folder_of
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from worker.training.model.export import load_exported
from worker.training.model.predictor import Prediction


def _table(path: Path) -> Path:
    """Write 120 sentences: those with `good` are praise, those with `bad` are not."""
    random = Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "verdict"])
        for number in range(120):
            words: list[str] = random.choices(
                ("film", "a", "the", "was", "so", "play"), k=1 + random.randrange(7)
            )
            words.insert(random.randrange(len(words) + 1), ("bad", "good")[number % 2])
            rows.writerow([" ".join(words), ("blame", "praise")[number % 2]])
    return path


def test_a_study_of_texts_ends_with_a_tested_model_that_predicts_sentences(
    client: Client, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "bert")
    document = a_study_document(
        name="reviews",
        task={
            "kind": "classification",
            "dataset": {
                "kind": "csv",
                "path": str(_table(tmp_path / "reviews.csv")),
                "text": "review",
                "targets": ["verdict"],
            },
        },
        model={"backbone": "bert", "weights": str(folder)},
        space={"learning_rate": {"kind": "float", "low": 5e-3, "high": 2e-2, "log": True}},
        fixed={"epochs": 8, "batch_size": 8},
        search={"sampler": "random", "pruner": "none"},
        budget={"trials": 2},
    )
    client.create_study(document)
    with a_worker(
        server_of(client), tmp_path / "cache", "--device", "cpu", runner="worker.runner"
    ):
        kinds = [event.kind for event in client.events("reviews")]
    study = client.study("reviews")
    assert kinds.count("final_test_opened") == 1
    assert study.state == "done"
    assert study.problem is None
    assert study.final is not None
    assert study.final.test_accuracy is not None
    assert study.final.test_accuracy >= 0.9
    model = client.download_model("reviews", tmp_path / "model.safetensors")
    # The folder is not needed any more: the file carries the tokenizer.
    shutil.rmtree(folder)
    told = load_exported(model).predict(["the film was so good", "a bad play"])
    assert [one.class_name for one in told if isinstance(one, Prediction)] == [
        "praise",
        "blame",
    ]
