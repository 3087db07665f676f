"""A real training process that fine-tunes an encoder of transformers."""

from pathlib import Path

from tests.support.leases import a_lease
from tests.support.runners import Trials
from tests.support.text_models import folder_of
from tests.support.texts import write_csv
from trimtab.contract.leases import Completed
from worker.data.text.tokenizer import open_tokenizer
from worker.pipe_messages import Began, Ended, EpochDone, News


def test_two_epochs_are_trained_and_the_record_tells_the_folder_and_what_was_cut(
    tmp_path: Path,
) -> None:
    # A BERT, which is written without transformers: its import takes ten seconds here as there.
    folder = folder_of(tmp_path / "bert")
    (folder / "tokenizer.json").write_text(open_tokenizer(folder).json)
    rows = [(f"{'film ' * (n % 9)}{('bad', 'good')[n % 2]}", n % 2) for n in range(60)]
    table = write_csv(tmp_path / "reviews.csv", ("review", "verdict"), rows)
    dataset = {"kind": "csv", "path": str(table), "text": "review", "targets": ["verdict"]}
    recipe = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "max_tokens": 8}
    lease = a_lease(
        task={"kind": "classification", "dataset": dataset},
        model={"backbone": "hf", "weights": str(folder)},
        recipe=recipe,
    )
    trials = Trials(tmp_path / "cache", "cpu")
    trials.order(lease)
    said: list[News] = []
    for news in trials.hear(lambda _: "continue"):
        said.append(news)
        if isinstance(news, Ended):
            break
    trials.runner.close()
    (record,) = (news.record for news in said if isinstance(news, Began))
    assert record.texts is not None
    assert record.texts.cut == 18
    assert record.weights is not None
    assert record.weights.source == str(folder / "model.safetensors")
    assert [news.report.step for news in said if isinstance(news, EpochDone)] == [0, 1]
    (ended,) = (news for news in said if isinstance(news, Ended))
    assert isinstance(ended.outcome, Completed)
