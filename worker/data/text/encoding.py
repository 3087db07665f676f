"""Texts as they are stored: rows of token numbers, all as long as the longest of the data set."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from worker.data.modality import Encoding, TokenSpec
from worker.data.text.tokenizer import Content, TextTokenizer, open_tokenizer


@dataclass(frozen=True, slots=True)
class TextHeader:
    """What is known of a text before it is stored.

    Attributes:
        tokens: The number of tokens of the whole of it, special ones included.
        unknown: The number of those that the vocabulary lacks.
    """

    tokens: int
    unknown: int


class Texts:
    """The modality of texts, for one tokenizer.

    Args:
        spec: The tokenizer, which is opened when it is needed: not where all is stored already.
    """

    name = "text"

    def __init__(self, spec: TokenSpec) -> None:
        self._spec = spec

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer."""
        return open_tokenizer(self._spec.tokenizer)

    def header(self, whole: Sequence[int]) -> TextHeader:
        """Count the tokens of a text or of a pair, of which all token numbers are given."""
        unknown = self.tokenizer.unk_id
        return TextHeader(len(whole), 0 if unknown is None else whole.count(unknown))

    def facts(self, headers: Iterable[TextHeader]) -> Mapping[str, Any]:
        """Return how many texts have which length, how many tokens there are and how many are unknown."""
        lengths: Counter[int] = Counter()
        tokens = unknown = 0
        for header in headers:
            lengths[header.tokens] += 1
            tokens += header.tokens
            unknown += header.unknown
        return {
            "lengths": {str(length): lengths[length] for length in sorted(lengths)},
            "tokens": tokens,
            "unknown": unknown,
            "vocab_size": self.tokenizer.vocab_size,
            "dtype": self.tokenizer.dtype,
            "pad_id": self.tokenizer.pad_id,
            "notes": [],
        }

    def encoding(self, facts: Mapping[str, Any], wanted: TokenSpec) -> Encoding:
        """Return rows `(L,)` of token numbers; L is the longest text's number of tokens, or the length that is wanted.

        Args:
            facts: The facts of the data set, as `facts` returned them.
            wanted: The tokenizer, and the most tokens of a sample.
        """
        lengths = {int(length): count for length, count in facts["lengths"].items()}
        longest = max(lengths, default=wanted.length)
        length = max(1, min(wanted.length, longest))
        details = {
            "length": length,
            "longest": longest,
            "cut": sum(count for tokens, count in lengths.items() if tokens > length),
            "texts": sum(lengths.values()),
            "unknown_share": facts["unknown"] / max(1, facts["tokens"]),
            "pad_id": facts["pad_id"],
            "vocab_size": facts["vocab_size"],
        }
        return Encoding(facts["dtype"], (length,), f"text {wanted.sha256} {length}", details)

    def encode(
        self, content: Content, encoding: Encoding, whole: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Return the token numbers of a text or of a pair, cut to the length, with padding behind its end.

        Args:
            content: The text, or the pair.
            encoding: The form that it is stored in.
            whole: All its token numbers, where they are known already.
        """
        (length,) = encoding.shape
        if whole is None:
            whole = self.tokenizer.whole(content)
        return self.tokenizer.padded([self.tokenizer.cut(content, whole, length)], length)[0]
