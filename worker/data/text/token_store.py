"""What a tokenizer made of all texts of a table, kept on disk: one text's tokens after the other's, and where each ends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOKENS, _ENDS = "tokens.bin", "ends.bin"
_ENDS_TYPE = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The tokens of N texts, mapped from disk.

    Attributes:
        tokens: The token numbers of all texts, `(T,)`.
        ends: The place in `tokens` behind the last one of each text, int64 `(N,)`.
    """

    tokens: NDArray[Any]
    ends: NDArray[np.int64]

    def of(self, row: int) -> NDArray[Any]:
        """Return the token numbers of one text."""
        return self.tokens[self.ends[row - 1] if row else 0 : self.ends[row]]


def keep(folder: Path, texts: Iterable[Sequence[int]], dtype: str) -> Iterator[Sequence[int]]:
    """Yield the token numbers of each text again, as soon as they are written.

    Args:
        folder: The folder of the store's two files.
        texts: The token numbers of each text.
        dtype: The type of the stored numbers, by numpy's name.
    """
    end = 0
    with (folder / _TOKENS).open("wb") as tokens, (folder / _ENDS).open("wb") as ends:
        for one in texts:
            end += len(one)
            tokens.write(np.array(one, dtype=dtype).tobytes())
            ends.write(_ENDS_TYPE.type(end).tobytes())
            yield one


def opened(folder: Path, dtype: str) -> TokenStore:
    """Open the store whose files `keep` has written."""
    return TokenStore(
        _mapped(folder / _TOKENS, np.dtype(dtype)), _mapped(folder / _ENDS, _ENDS_TYPE)
    )


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    # The system maps no empty file, which a tokenizer without special tokens may leave of a text that has none.
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
