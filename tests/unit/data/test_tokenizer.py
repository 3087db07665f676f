"""Tokenizers of published folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.texts import byte_pairs, minilm, word_pieces
from worker.data.errors import TokenizerUnusable
from worker.data.text.tokenizer import TextTokenizer, open_tokenizer, sha256_of

LONG = 64


def test_a_published_tokenizer_neither_cuts_nor_pads_of_itself() -> None:
    published = json.loads((minilm() / "tokenizer.json").read_text())
    assert published["truncation"]["max_length"] == 128
    assert published["padding"]["strategy"] == {"Fixed": 128}
    tokenizer = open_tokenizer(minilm())
    assert len(tokenizer.whole("word " * 300)) == 302
    assert tokenizer.encode(["hello"], LONG) == [[101, 7592, 102]]
    told = json.loads(tokenizer.json)
    assert (told["truncation"], told["padding"]) == (None, None)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.unk_id) == (30522, 0, 100)
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.dtype) == (101, 102, "uint16")


def test_a_special_token_that_a_person_writes_is_text() -> None:
    tokenizer = open_tokenizer(minilm())
    (ids,) = tokenizer.encode(["a [SEP] b [PAD] c"], LONG)
    assert ids.count(tokenizer.sep_id or -1) == 1
    assert tokenizer.pad_id not in ids


def test_a_pair_has_the_separator_between_and_behind_and_its_longer_text_is_cut_first() -> None:
    tokenizer = open_tokenizer(minilm())
    a, b = tokenizer.encode(["a", "b"], LONG)
    assert tokenizer.encode([("a", "b")], LONG) == [[101, a[1], 102, b[1], 102]]
    assert tokenizer.encode([("a " * 9, "b b")], 8) == [
        [101, a[1], a[1], a[1], 102, b[1], b[1], 102]
    ]


def test_the_whole_tokenizer_is_what_an_exported_model_carries() -> None:
    tokenizer = open_tokenizer(minilm())
    before = tokenizer.json
    ids = tokenizer.encode(["not so bad"], 4)
    again = TextTokenizer.of_json(tokenizer.json, pad_id=0, where=Path("model.safetensors"))
    assert again.encode(["not so bad"], 4) == ids
    assert (tokenizer.json, again.json) == (before, before)


def test_a_list_of_word_pieces_is_read_as_bert_reads_it(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(word_pieces(tmp_path))
    assert tokenizer.encode(["A GOOD film, playing"], LONG) == [[2, 8, 5, 7, 1, 13, 14, 3]]
    assert tokenizer.whole("zzz film").count(tokenizer.unk_id or -1) == 1
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (0, 16)


def test_word_pieces_make_of_a_text_what_the_published_whole_makes_of_it(
    tmp_path: Path,
) -> None:
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        shutil.copy(minilm() / name, tmp_path / name)
    texts = ["Héllo, WORLD! 東京 naïve co-op", "x" * 101, "a\tb  \u00a0c"]
    whole = open_tokenizer(minilm())
    assert open_tokenizer(tmp_path).encode(texts, LONG) == whole.encode(texts, LONG)


def test_a_vocabulary_with_capitals_keeps_them_unless_its_settings_say_otherwise(
    tmp_path: Path,
) -> None:
    folder = word_pieces(tmp_path, ["Good", "good"])
    assert open_tokenizer(folder).encode(["Good"], LONG) == [[2, 5, 3]]
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert open_tokenizer(folder).encode(["Good"], LONG) == [[2, 6, 3]]


def test_byte_pairs_are_read_as_roberta_reads_them(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(byte_pairs(tmp_path))
    (ids,) = tokenizer.encode(["good good"], LONG)
    good = tokenizer.vocab_size - 2
    assert ids == [0, good, good + 1, 2]
    (pair,) = tokenizer.encode([("good", "good")], LONG)
    assert pair == [0, good, 2, 2, good, 2]
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id) == (1, 0, 2)


@pytest.mark.parametrize("form", ["published", "byte pairs", "word pieces"])
def test_known_tokens_are_cut_as_the_library_cuts_the_text(tmp_path: Path, form: str) -> None:
    made = {"byte pairs": byte_pairs, "word pieces": word_pieces}
    tokenizer = open_tokenizer(made[form](tmp_path) if form in made else minilm())
    texts = ("good film playing so good", "good", "the " * 9, "good [SEP] film")
    for content in (*texts, *((text, "not bad") for text in texts)):
        for length in (4, 7, 30):
            cut = tokenizer.cut(content, tokenizer.whole(content), length)
            assert [cut] == tokenizer.encode([content], length)


def test_rows_are_stored_with_padding_behind_their_end(tmp_path: Path) -> None:
    tokenizer = open_tokenizer(byte_pairs(tmp_path))
    rows = tokenizer.padded([[0, 5, 2], [0, 2]])
    assert (rows.tolist(), rows.dtype) == ([[0, 5, 2], [0, 2, 1]], np.uint16)
    assert tokenizer.padded([[0, 2]], 4).tolist() == [[0, 2, 1, 1]]


def test_the_hash_changes_with_the_tokenizer_alone(tmp_path: Path) -> None:
    folder = word_pieces(tmp_path)
    before = sha256_of(folder)
    assert open_tokenizer(folder).sha256 == before
    (folder / "model.safetensors").write_bytes(b"weights")
    assert sha256_of(folder) == before
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nother\n")
    assert sha256_of(folder) != before


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "has no tokenizer: neither tokenizer.json"),
        ({"tokenizer.json": "{}"}, "its tokenizer.json cannot be read"),
        ({"vocab.txt": "a\nb\n"}, r"lacks \[CLS\], \[SEP\], \[UNK\], \[PAD\]"),
        ({"vocab.json": "{}", "merges.txt": "a b"}, "vocab.json or merges.txt cannot be read"),
        ({"vocab.json": "{}", "merges.txt": ""}, "lacks <s> or </s>"),
        ({"vocab.txt": "a", "config.json": "{"}, "config.json: is not JSON"),
    ],
)
def test_a_folder_without_a_usable_tokenizer_is_refused(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerUnusable, match=told):
        open_tokenizer(tmp_path)
