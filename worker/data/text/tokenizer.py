"""Tokenizers as they are published: a folder's tokenizer.json, or its vocabulary in the form of BERT or of RoBERTa.

Three settings that published files bring are put aside, since they would change what a text becomes: a length that
texts are cut to, a length that they are padded to, and that a special token written in a person's text, such as
"[SEP]", becomes that token.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from worker.data.errors import TokenizerUnusable

if TYPE_CHECKING:
    # Imported where a tokenizer is opened: pictures are trained and predicted without the library.
    from tokenizers import Encoding, Tokenizer

Content = str | tuple[str, str]
"""A sample: a text, or a pair of texts."""

_WHOLE = ("tokenizer.json",)
_WORDPIECE = ("vocab.txt",)
_BYTE_LEVEL = ("vocab.json", "merges.txt")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
_PADS = ("[PAD]", "<pad>", "<|pad|>")
_UNKNOWN = ("[UNK]", "<unk>")
_LIMIT_16_BITS = 1 << 16


class TextTokenizer:
    """Turns texts into the token numbers that a network was trained on.

    Attributes:
        vocab_size: The number of tokens; every token number is below it.
        pad_id: The number that stands behind the end of a text, and nowhere else.
        cls_id: The number that every text begins with; None if the tokenizer adds none.
        sep_id: The number that every text ends with, and that stands between those of a pair; None if it adds none.
        unk_id: The number for what the vocabulary lacks; None if it lacks nothing.
        sha256: The hash of the files, or of the text, that it was read from.
        json: The whole tokenizer in the form of tokenizer.json, without a length: for exported models.
    """

    def __init__(
        self, whole: "Tokenizer", *, sha256: str, pad: str | None, where: Path
    ) -> None:
        """Put lengths aside.

        Args:
            whole: The tokenizer as it was read; it must not be used by anybody else.
            sha256: The hash of what it was read from.
            pad: The padding token, if its settings name one.
            where: The place that it was read from, for messages.

        Raises:
            TokenizerUnusable: It has no padding token.
        """
        whole.no_truncation()
        whole.no_padding()
        # Before it is used: a call with other settings would change what is written.
        self.json = whole.to_str()
        self.sha256 = sha256
        whole.encode_special_tokens = True
        self._whole = whole
        self._cut: dict[int, Tokenizer] = {}
        self.vocab_size = _size(whole)
        self.pad_id = _pad_id(whole, pad, where)
        ends = whole.encode("").ids
        self.cls_id = ends[0] if len(ends) > 1 else None
        self.sep_id = ends[-1] if ends else None
        self._adds_one_at_each_end = len(ends) == 2
        self.unk_id = _first(whole, _UNKNOWN)

    @classmethod
    def of_json(cls, text: str, *, pad_id: int, where: Path) -> "TextTokenizer":
        """Return the tokenizer that an exported model carries.

        Args:
            text: The tokenizer, as `json` has it.
            pad_id: The number of its padding token.
            where: The model's file, for messages.

        Raises:
            TokenizerUnusable: The text is no tokenizer.
        """
        whole = _parsed(text, where)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        return cls(whole, sha256=sha256, pad=whole.id_to_token(pad_id), where=where)

    @property
    def dtype(self) -> str:
        """The name of numpy's type that token numbers are stored in: uint16 where they fit, else int32."""
        return "uint16" if self.vocab_size <= _LIMIT_16_BITS else "int32"

    def encode(self, contents: Sequence[Content], length: int) -> list[list[int]]:
        """Return the token numbers of texts, or of pairs, with the special tokens that the network was trained with.

        Args:
            contents: The texts; or pairs of texts, each of which is a tuple.
            length: The most tokens, special ones included; of a pair, the longer text is cut first.
        """
        if length not in self._cut:
            cut = _of_json(self.json)
            cut.encode_special_tokens = True
            cut.enable_truncation(length)
            self._cut[length] = cut
        return [list(one.ids) for one in _encoded(self._cut[length], contents)]

    def whole(self, content: Content) -> list[int]:
        """Return the token numbers of the whole of a text or of a pair, special ones included."""
        (found,) = _encoded(self._whole, [content])
        return list(found.ids)

    def cut(self, content: Content, whole: Sequence[int], length: int) -> list[int]:
        """Return what `encode` returns of a text or of a pair, whose token numbers are all known.

        Args:
            content: The text, or the pair.
            whole: Its token numbers, as the method `whole` returns them.
            length: The most tokens, special ones included.
        """
        if len(whole) <= length:
            return list(whole)
        if isinstance(content, str) and self._adds_one_at_each_end:
            return [*whole[: length - 1], whole[-1]]
        # How a pair is cut, or a text with other special tokens, the library knows.
        return self.encode([content], length)[0]

    def padded(self, ids: Sequence[Sequence[int]], length: int | None = None) -> NDArray[Any]:
        """Return token numbers as they are stored, `(N, length)`, each row with padding behind its end.

        Args:
            ids: The token numbers of each text.
            length: The length of a row; None takes that of the longest text.
        """
        longest = max((len(one) for one in ids), default=0) if length is None else length
        rows = np.full((len(ids), longest), self.pad_id, dtype=self.dtype)
        for row, one in zip(rows, ids, strict=True):
            row[: len(one)] = one
        return rows


def open_tokenizer(folder: Path) -> TextTokenizer:
    """Read the tokenizer of a folder, as it is published.

    It is in tokenizer.json; or in vocab.txt, as WordPiece in the form of BERT; or in vocab.json and merges.txt, as the
    byte-level BPE of RoBERTa.

    Raises:
        TokenizerUnusable: The folder has none of these, or one that cannot be read.
    """
    files = _files(folder)
    settings = _settings(folder)
    if files == _WHOLE:
        whole = _parsed(_text(folder / files[0]), folder)
    elif files == _WORDPIECE:
        whole = _word_piece(folder, settings)
    else:
        whole = _byte_level(folder)
    return TextTokenizer(
        whole, sha256=sha256_of(folder), pad=_named(settings, "pad_token"), where=folder
    )


def sha256_of(folder: Path) -> str:
    """Return the hash of the files that a folder's tokenizer is made of; much faster than opening it.

    Raises:
        TokenizerUnusable: The folder has no tokenizer.
    """
    seen = hashlib.sha256()
    for name in (*_files(folder), *_SETTINGS[:2]):
        path = folder / name
        content = _text(path) if path.is_file() else ""
        seen.update(f"{name}\0{len(content)}\0{content}".encode())
    return seen.hexdigest()


def _files(folder: Path) -> tuple[str, ...]:
    for names in (_WHOLE, _WORDPIECE, _BYTE_LEVEL):
        if all((folder / name).is_file() for name in names):
            return names
    raise TokenizerUnusable(
        folder,
        "has no tokenizer: neither tokenizer.json, nor vocab.txt, nor vocab.json and merges.txt",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerUnusable(path, "cannot be read as text in UTF-8") from error


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings that stand beside a tokenizer; those of its own file go before the model's."""
    found: dict[str, Any] = {}
    for name in reversed(_SETTINGS):
        if (folder / name).is_file():
            try:
                read = json.loads(_text(folder / name))
            except ValueError as error:
                raise TokenizerUnusable(folder / name, "is not JSON") from error
            found |= cast(dict[str, Any], read) if isinstance(read, dict) else {}
    return found


def _named(settings: dict[str, Any], key: str) -> str | None:
    """Return the text of a token, which settings give as such or as an object."""
    value = settings.get(key)
    if isinstance(value, dict):
        value = cast(dict[str, Any], value).get("content")
    return value if isinstance(value, str) else None


def _parsed(text: str, where: Path) -> "Tokenizer":
    try:
        return _of_json(text)
    except Exception as error:  # The library raises the bare class.
        raise TokenizerUnusable(where, "its tokenizer.json cannot be read") from error


def _of_json(text: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(text)


def _word_piece(folder: Path, settings: dict[str, Any]) -> "Tokenizer":
    """Return BERT's tokenizer of a list of word pieces, one a line."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers import pre_tokenizers as pre
    from tokenizers import processors as post
    from tokenizers.models import WordPiece

    words = _text(folder / "vocab.txt").splitlines()
    vocabulary = {word.rstrip("\r\n"): number for number, word in enumerate(words)}
    special = [_named(settings, f"{name}_token") for name in ("cls", "sep", "unk", "pad")]
    usual = ("[CLS]", "[SEP]", "[UNK]", "[PAD]")
    cls, sep, unk, pad = (name or own for name, own in zip(special, usual, strict=True))
    if missing := [name for name in (cls, sep, unk, pad) if name not in vocabulary]:
        raise TokenizerUnusable(folder / "vocab.txt", f"lacks {', '.join(missing)}")
    whole = Tokenizer(WordPiece(vocabulary, unk_token=unk))
    whole.add_special_tokens([cls, sep, unk, pad])
    whole.normalizer = normalizers.BertNormalizer(
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        lowercase=settings.get("do_lower_case", _is_lower_case(vocabulary)),
    )
    whole.pre_tokenizer = pre.BertPreTokenizer()
    whole.post_processor = post.BertProcessing((sep, vocabulary[sep]), (cls, vocabulary[cls]))
    whole.decoder = decoders.WordPiece()
    return whole


def _is_lower_case(vocabulary: dict[str, int]) -> bool:
    """Tell whether a vocabulary that says nothing of it is one of small letters: then it has no word with a capital."""
    return not any(word.isalpha() and word != word.lower() for word in vocabulary)


def _byte_level(folder: Path) -> "Tokenizer":
    """Return RoBERTa's tokenizer: bytes that are merged pair by pair."""
    from tokenizers import AddedToken, Tokenizer, decoders
    from tokenizers import pre_tokenizers as pre
    from tokenizers import processors as post
    from tokenizers.models import BPE

    try:
        model = BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # As above.
        raise TokenizerUnusable(
            folder, "its vocab.json or merges.txt cannot be read"
        ) from error
    whole = Tokenizer(model)
    whole.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    cls, sep = whole.token_to_id("<s>"), whole.token_to_id("</s>")
    if cls is None or sep is None:
        raise TokenizerUnusable(folder / "vocab.json", "lacks <s> or </s>")
    whole.add_special_tokens(
        [AddedToken(name, special=True) for name in ("<s>", "</s>", "<unk>", "<pad>")]
    )
    whole.post_processor = post.RobertaProcessing(
        ("</s>", sep), ("<s>", cls), add_prefix_space=False
    )
    return whole


def _encoded(tokenizer: "Tokenizer", contents: Sequence[Content]) -> "Iterator[Encoding]":
    # One by one: a batch would be shared out to threads that the library starts for itself.
    for one in contents:
        yield tokenizer.encode(one) if isinstance(one, str) else tokenizer.encode(*one)


def _size(tokenizer: "Tokenizer") -> int:
    """Return one more than the largest number: published vocabularies may have gaps."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _pad_id(tokenizer: "Tokenizer", pad: str | None, where: Path) -> int:
    number = _first(tokenizer, (pad,) if pad else _PADS)
    if number is None:
        raise TokenizerUnusable(
            where, "its tokenizer has no padding token; name one in tokenizer_config.json"
        )
    return number


def _first(tokenizer: "Tokenizer", names: Sequence[str]) -> int | None:
    """Return the number of the first of these tokens that there is."""
    numbers = (tokenizer.token_to_id(name) for name in names)
    return next((number for number in numbers if number is not None), None)
