"""From samples as a person hands them over to a stored batch, as the data of the training were stored."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.data.images.encoding import encode_files, encoding_of
from worker.data.images.pixels import Form
from worker.data.text.tokenizer import Content, TextTokenizer
from worker.training.model import text_models
from worker.training.model.card import CardMember, TokenCard


class SampleEncoder(Protocol):
    """Encodes samples of one kind."""

    @property
    def key(self) -> Hashable:
        """Two encoders of one key make the same of a sample."""
        ...

    def encode(self, samples: Sequence[Any]) -> Sequence[NDArray[Any] | str]:
        """Return each sample as it is stored, or why it cannot be."""
        ...

    def together(self, encoded: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return a stored batch `(N, ...)`."""
        ...


def encoder_of(card: CardMember, tokenizer: str, path: Path) -> SampleEncoder:
    """Return what encodes samples for a model of a file.

    Args:
        card: The description of the model.
        tokenizer: Its tokenizer, as JSON; empty where it sees pictures.
        path: The file, for messages.
    """
    if isinstance(card.input, TokenCard):
        length = text_models.length_of(card.recipe, card.input.positions)
        return _Texts(card.input, tokenizer, length, path)
    side, _, channels = card.shape
    scaled = card.interpolation, card.crop
    return _Pictures(Form(side, channels, card.recipe.resize, card.levels, *scaled))


class _Pictures:
    def __init__(self, form: Form) -> None:
        self.key = form

    def encode(self, samples: Sequence[Path | Image.Image]) -> Sequence[NDArray[Any] | str]:
        return encode_files(samples, encoding_of(self.key))

    def together(self, encoded: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.stack(encoded)


class _Texts:
    def __init__(self, card: TokenCard, tokenizer: str, length: int, path: Path) -> None:
        self.key = (card.sha256, length)
        self._tokenizer = TextTokenizer.of_json(tokenizer, pad_id=card.pad_id, where=path)
        self._length = length

    def encode(self, samples: Sequence[Content]) -> Sequence[NDArray[Any] | str]:
        return [self._encoded(sample) for sample in samples]

    def _encoded(self, sample: Content) -> NDArray[Any] | str:
        texts = (sample,) if isinstance(sample, str) else sample
        if not all(text.strip() for text in texts):
            return "it is empty"
        ids = self._tokenizer.encode([sample], self._length)[0]
        return np.array(ids, dtype=self._tokenizer.dtype)

    def together(self, encoded: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return self._tokenizer.padded([cast(list[int], one.tolist()) for one in encoded])
