"""Tables of texts: what is stored of each row, what is told of all, and which rows cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.pictures import folder_task, write_classes
from tests.support.texts import sentences, text_task, wanted, write_csv, write_jsonl
from tests.support.tiny import CPU
from trimtab.cli import record_table
from trimtab.contract.metrics import TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Task
from worker.data import Seal, TaskData, load, open_test
from worker.data.errors import (
    BadRows,
    ClassTooSmall,
    ColumnTwice,
    DataMissing,
    MissingColumns,
    ModalityUnfit,
    NumbersForTexts,
    OutsideRoots,
    TableUnreadable,
)
from worker.data.modality import ImageSpec
from worker.data.roots import Roots
from worker.data.text.tokenizer import open_tokenizer
from worker.runner import trial_record

HEADER = ("text", "label")


def _load(task: Task, folder: Path, *, length: int = 16, few: int | None = None) -> TaskData:
    return load(
        task, cache_dir=folder / "cache", wanted=wanted(folder / "model", length), few=few
    )


def _table(folder: Path, rows: list[tuple[str, str]] | None = None) -> Path:
    return write_csv(folder / "t.csv", HEADER, sentences(20) if rows is None else rows)


def _texts_of(data: TaskData) -> list[list[int]]:
    pad = data.details["pad_id"]
    return [[one for one in row if one != pad] for row in data.train.inputs.tolist()]


def test_a_text_is_stored_as_its_token_numbers_with_padding_behind_them(tmp_path: Path) -> None:
    splits = ("train", "val", "test")
    rows = [
        (text, label, part)
        for part in splits
        for text, label in [(f"the film {part}", "p"), ("not so bad", "n")]
    ]
    path = write_csv(tmp_path / "t.csv", (*HEADER, "part"), rows)
    data = _load(text_task(path, split="part"), tmp_path)
    assert data.train.inputs.tolist() == [[2, 9, 7, 1, 3], [2, 11, 12, 6, 3]]
    assert data.train.inputs.dtype == np.uint16
    assert isinstance(data.train.inputs, np.memmap)
    assert (data.train.labels.tolist(), data.classes) == ([1, 0], ("n", "p"))
    assert (data.modality, data.outputs, data.metric) == ("text", ("n", "p"), "accuracy")
    assert data.counts == {"train": 2, "validation": 2, "test": 2}
    sealed = open_test(
        text_task(path, split="part"),
        Seal("final"),
        cache_dir=tmp_path / "cache",
        wanted=wanted(tmp_path / "model"),
    )
    assert sealed.labels.tolist() == [1, 0]


def test_a_pair_is_one_sample_with_a_separator_between(tmp_path: Path) -> None:
    rows = [(f"good{' film' * n}", "bad", n / 10) for n in range(12)]
    path = write_csv(tmp_path / "t.csv", ("a", "b", "score"), rows)
    data = _load(text_task(path, "regression", ["score"], text=["a", "b"]), tmp_path)
    (target,) = data.targets
    for row, label in zip(_texts_of(data), data.train.labels[:, 0].tolist(), strict=True):
        assert row == [2, 5, *[7] * round(10 * label), 3, 6, 3]
    assert target.mean == pytest.approx(data.train.labels.mean())


def test_lines_of_json_are_read_as_a_table_is(tmp_path: Path) -> None:
    table = _load(text_task(_table(tmp_path)), tmp_path)
    lines = [{"label": label, "text": text, "more": [1]} for text, label in sentences(20)]
    data = _load(text_task(write_jsonl(tmp_path / "t.jsonl", lines)), tmp_path)
    assert data.sha256 == table.sha256
    assert data.split_sha256 == table.split_sha256
    assert data.train.inputs.tolist() == table.train.inputs.tolist()


def test_numbers_truth_and_null_are_labels_in_json(tmp_path: Path) -> None:
    rows = [
        {"text": text, "age": None if number % 5 == 0 else number, "sex": number % 2 == 0}
        for number, (text, _) in enumerate(sentences(20))
    ]
    targets = [
        {"column": "age", "kind": "regression"},
        {"column": "sex", "kind": "binary"},
    ]
    data = _load(
        text_task(write_jsonl(tmp_path / "t.jsonl", rows), "multi_task", targets), tmp_path
    )
    age, sex = data.train.labels.T
    assert np.isnan(age).any()
    known = ~np.isnan(age)
    assert (sex[known] == 1 - age[known] % 2).all()


def test_several_labels_of_a_text_are_learned_together(tmp_path: Path) -> None:
    rows = [
        (text, number % 2, number // 2 % 2) for number, (text, _) in enumerate(sentences(20))
    ]
    path = write_csv(tmp_path / "t.csv", ("text", "a", "b"), rows)
    data = _load(text_task(path, "multi_label", ["a", "b"]), tmp_path)
    assert data.outputs == ("a", "b")
    assert data.train.labels.shape == (12, 2)


def test_all_samples_are_as_long_as_the_longest_or_cut_and_counted(tmp_path: Path) -> None:
    path = _table(tmp_path)
    whole = _load(text_task(path), tmp_path)
    assert whole.train.inputs.shape[1] == 13
    assert (whole.details["longest"], whole.details["cut"]) == (13, 0)
    cut = _load(text_task(path), tmp_path, length=8)
    assert cut.train.inputs.shape[1] == 8
    assert (cut.train.inputs.max(axis=1) < 16).all()
    # Sentences of 4, 4, 5, 5, ... 13, 13 tokens: those above eight are cut, and end as all do.
    assert (cut.details["longest"], cut.details["cut"], cut.details["texts"]) == (13, 10, 20)
    assert {row[-1] for row in _texts_of(cut)} == {3}
    assert cut.sha256 == whole.sha256


def test_the_share_of_unknown_tokens_is_of_all_tokens(tmp_path: Path) -> None:
    path = _table(tmp_path, [(f"{text} zzz", label) for text, label in sentences(20)])
    data = _load(text_task(path), tmp_path)
    assert data.details["unknown_share"] == pytest.approx(20 / (20 * 5 + 90))


def test_texts_that_differ_in_white_space_or_in_unicode_form_are_on_one_side(
    tmp_path: Path,
) -> None:
    rows = [
        (form.format(text), label)
        for text, label in sentences(40)
        for form in ("{} caf\u00e9", "  {}\tcafe\u0301 ")
    ]
    data = _load(text_task(_table(tmp_path, rows)), tmp_path)
    assert data.duplicates.copies == 40
    assert data.duplicates.across_splits == 0
    assert data.duplicates.first[0].paths == ("line 2", "line 3")


def test_the_same_text_in_two_published_splits_or_under_two_labels_is_told(
    tmp_path: Path,
) -> None:
    rows = [(*one, part) for part in ("train", "val", "test") for one in sentences(4)]
    rows += [("good film", "n", "train"), ("good  film", "p", "test")]
    path = write_csv(tmp_path / "t.csv", (*HEADER, "part"), rows)
    data = _load(text_task(path, split="part"), tmp_path)
    found = data.duplicates
    assert (found.copies, found.across_splits, found.conflicting_labels) == (10, 4, 1)
    told = "\n".join(data.notes)
    assert "texts in more than one split: 4, such as line 2 (train)" in told
    assert "texts with more than one label: 1, such as line" in told


def test_texts_of_one_group_are_in_one_split(tmp_path: Path) -> None:
    rows = [(*one, f"author {number // 4}") for number, one in enumerate(sentences(60))]
    path = write_csv(tmp_path / "t.csv", (*HEADER, "by"), rows)
    data = _load(text_task(path, group="by"), tmp_path)
    assert sum(data.counts.values()) == 60
    assert all(count % 4 == 0 for count in data.counts.values())
    assert "texts of one group stay in one split; groups: 9 in train" in data.notes[0]


def test_few_texts_of_each_class_are_kept(tmp_path: Path) -> None:
    data = _load(text_task(_table(tmp_path, sentences(40))), tmp_path, few=3)
    assert data.train.rows is not None
    assert sorted(data.train.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert data.class_counts["train"] == [12, 12]


def test_a_row_more_moves_no_text_from_train_to_test(tmp_path: Path) -> None:
    first = _load(text_task(_table(tmp_path, sentences(60))), tmp_path, length=64)
    seen = {tuple(row) for row in _texts_of(first)}
    more = [("so so", "p"), *sentences(60)]
    task = text_task(_table(tmp_path, more))
    spec = wanted(tmp_path / "model", 64)
    sealed = open_test(task, Seal("final"), cache_dir=tmp_path / "cache", wanted=spec)
    tested = {tuple(one for one in row if one) for row in sealed.inputs.tolist()}
    assert not seen & tested


def test_stored_texts_are_found_without_reading_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = text_task(_table(tmp_path))
    first = _load(task, tmp_path)
    monkeypatch.setattr("worker.data.text.table.rows", None)
    monkeypatch.setattr("worker.data.text.encoding.open_tokenizer", None)
    again = _load(task, tmp_path)
    assert (again.key, again.sha256) == (first.key, first.sha256)
    assert again.train.inputs.tolist() == first.train.inputs.tolist()


def test_texts_are_tokenized_once_however_many_tokens_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = text_task(_table(tmp_path))
    whole = _load(task, tmp_path, length=64).train
    monkeypatch.setattr("worker.data.text.tokenizer._encoded", None)
    cut = _load(task, tmp_path, length=4).train
    assert cut.inputs[:, :3].tolist() == whole.inputs[:, :3].tolist()
    assert cut.inputs[:, 3].tolist() == [3] * len(cut)  # All are cut before their last token.


def test_another_tokenizer_stores_other_numbers_of_the_same_data(tmp_path: Path) -> None:
    task = text_task(_table(tmp_path))
    first = _load(task, tmp_path)
    (tmp_path / "model" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nfilm\n")
    other = _load(task, tmp_path)
    assert (other.sha256, other.split_sha256) == (first.sha256, first.split_sha256)
    assert other.train.inputs.tolist() != first.train.inputs.tolist()


@pytest.mark.parametrize("change", ["label", "text", "space"])
def test_a_table_that_changed_is_read_anew(tmp_path: Path, change: str) -> None:
    rows = sentences(20)
    before = _load(text_task(_table(tmp_path, rows)), tmp_path)
    text, label = rows[0]
    changed = {"label": (text, "n"), "text": ("so", label), "space": (f"{text} ", label)}
    after = _load(text_task(_table(tmp_path, [changed[change], *rows[1:]])), tmp_path)
    assert after.sha256 != before.sha256


BAD = b'text,label\ngood,p\n"two\nlines",n\n,p\nbad,\nb\xffd,n\nso,p,more\nfilm\n'
REASONS = {
    5: "'text' is empty",
    6: "has no label",
    7: "'text' is not UTF-8",
    8: "has more cells than there are columns",
    9: "has no cell for 'label'",
}


def test_all_bad_rows_of_a_table_are_told_by_their_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(BAD)
    with pytest.raises(BadRows) as caught:
        _load(text_task(tmp_path / "t.csv"), tmp_path)
    assert caught.value.reasons == REASONS


def test_bad_rows_are_left_out_and_told_if_the_task_says_so(tmp_path: Path) -> None:
    rows = "".join(f"{text},{label}\n" for text, label in sentences(20))
    (tmp_path / "t.csv").write_bytes(BAD + rows.encode())
    task = text_task(tmp_path / "t.csv", on_bad_file="skip")
    data = _load(task, tmp_path)
    assert sum(data.counts.values()) == 22
    assert data.skipped.count == 5
    assert data.skipped.first[0].path == "line 5"
    sealed = open_test(
        task, Seal("final"), cache_dir=tmp_path / "cache", wanted=wanted(tmp_path / "model")
    )
    stored = [*data.train.inputs, *data.validation.inputs, *sealed.inputs]
    kept = ["good", "two\nlines", *(text for text, _ in sentences(20))]
    expected = open_tokenizer(tmp_path / "model").encode(kept, 16)
    assert sorted([one for one in row.tolist() if one] for row in stored) == sorted(expected)
    with pytest.raises(BadRows):
        _load(text_task(tmp_path / "t.csv"), tmp_path)


def test_all_bad_lines_of_json_are_told(tmp_path: Path) -> None:
    lines = [
        b'{"text": "a", "label": "p"}',
        b'{"text": 3, "label": "p"}',
        b'["text", "label"]',
        b'{"text": "\xff", "label": "p"}',
        b"{text: a}",
        b"",
        b'{"text": "a", "label": null}',
        b'{"text": "a", "label": ["p"]}',
        b'{"label": "p"}',
        b'{"text": "\\ud800", "label": "p"}',
        b'{"text": "a", "label": NaN}',
        b'{"text": null, "label": "p"}',
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(BadRows) as caught:
        _load(text_task(tmp_path / "t.jsonl"), tmp_path)
    assert caught.value.reasons == {
        2: "'text' is a number, not a text",
        3: "is not a JSON object",
        4: "is not UTF-8",
        5: "is not JSON",
        7: "has no label",
        8: "'label' is a list or an object, not a label",
        9: "has no cell for 'text'",
        10: "'text' is not UTF-8",
        11: "is not JSON",
        12: "'text' is null, not a text",
    }


@pytest.mark.parametrize(
    ("name", "content", "error", "told"),
    [
        ("t.csv", "sentence,label\na,p\n", MissingColumns, "has no column 'text'"),
        ("t.csv", "text,text,label\na,b,p\n", ColumnTwice, "all named 'text'"),
        ("t.csv", "text,label\n1,p\n2.5,n\n", NumbersForTexts, "every cell of 'text'"),
        ("t.csv", "text,label\n", TableUnreadable, "it has no rows"),
        ("t.jsonl", "", TableUnreadable, "it has no rows"),
        ("t.jsonl", '{"sentence": "a", "label": 1}\n', MissingColumns, "no column 'text'"),
        ("t.csv", "text,label\na,p\nb,p\nc,p\nd,n\n", ClassTooSmall, "1 different text,"),
    ],
)
def test_a_file_that_is_no_table_of_texts_is_refused(
    tmp_path: Path, name: str, content: str, error: type[Exception], told: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=told):
        _load(text_task(tmp_path / name), tmp_path)


def test_a_file_that_is_not_there_or_may_not_be_read_is_told(tmp_path: Path) -> None:
    task = text_task(tmp_path / "t.csv")
    with pytest.raises(DataMissing, match=r"t\.csv: there is no such file"):
        _load(task, tmp_path)
    (tmp_path / "roots").mkdir()
    with pytest.raises(OutsideRoots):
        load(
            task,
            cache_dir=tmp_path / "cache",
            wanted=wanted(tmp_path / "model"),
            roots=Roots.of([tmp_path / "roots"]),
        )


def test_a_table_in_utf_8_with_a_mark_is_read(tmp_path: Path) -> None:
    path = _table(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert sum(_load(text_task(path), tmp_path).counts.values()) == 20


def test_a_cell_may_be_longer_than_the_librarys_limit(tmp_path: Path) -> None:
    path = _table(tmp_path, [*sentences(20), ("film " * 30_000, "p")])
    assert _load(text_task(path), tmp_path).details["longest"] == 30_002


def test_texts_for_a_network_of_pictures_and_the_reverse_are_refused(tmp_path: Path) -> None:
    task = text_task(_table(tmp_path))
    with pytest.raises(ModalityUnfit, match="of the kind text, and the backbone takes"):
        load(task, cache_dir=tmp_path / "cache", wanted=ImageSpec(8))
    write_classes(tmp_path / "pets", {"cat": 6, "ant": 6})
    pictures = folder_task(tmp_path / "pets")
    with pytest.raises(ModalityUnfit, match="of the kind image, and the backbone takes"):
        _load(pictures, tmp_path)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_splits_of_texts_and_of_pictures_follow_one_rule(
    tmp_path: Path, kind: TaskKind
) -> None:
    rows = [(text, str(number % 2)) for number, (text, _) in enumerate(sentences(50))]
    data = _load(text_task(_table(tmp_path, rows), kind), tmp_path)
    assert data.counts == {"train": 30, "validation": 10, "test": 10}


def test_the_record_tells_which_texts_were_cut_and_what_is_unknown(tmp_path: Path) -> None:
    rows = [(f"{text} zzz", label) for text, label in sentences(20)]
    data = _load(text_task(_table(tmp_path, rows)), tmp_path, length=8)
    record = trial_record.record_of(data, Recipe(), CPU)
    texts = record.texts
    assert texts is not None
    assert (texts.length, texts.longest, texts.cut, texts.cut_share) == (8, 14, 12, 0.6)
    assert texts.unknown_share == pytest.approx(20 / 190)
    assert record.input_size == 8
    told = {name: str(text) for name, text in record_table.rows_of(record)}
    assert told["texts"] == "12 train, 4 validation, 4 test"
    assert told["tokens"] == (
        "at most 8 a text, 12 texts cut (60.0%); the longest has 14; unknown: 10.53%"
    )
