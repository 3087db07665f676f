"""What a training answered to each row of the validation split, small enough to travel with its outcome."""

import base64
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.contract.validation_outputs import MOST_CHARACTERS, ValidationOutputs
from worker.training.objective.evaluate import Scores
from worker.training.objective.objectives import Classification, Objective

_LARGEST = torch.finfo(torch.float16).max


def answers_of(scores: Scores, objective: Objective) -> Tensor | None:
    """Return what is kept of one validation, on the CPU; None where it is too much to be told.

    Args:
        scores: A measurement with its outputs and labels.
        objective: The objective that was measured.

    Returns:
        Whether each answer is right, bool `(rows, 1)`, where the objective is the accuracy of one classification; else
        the outputs, float16 `(rows, columns)`.
    """
    outputs = scores.outputs
    if outputs is None or scores.labels is None:
        return None
    if isinstance(objective, Classification) and objective.metric == "accuracy":
        right = (outputs.argmax(dim=1) == scores.labels).unsqueeze(1).cpu()
        return right if len(right) / 8 <= MOST_CHARACTERS else None
    # Random digits hardly shrink: what is longer than this before it is packed is too long afterwards too.
    if 2 * outputs.numel() > MOST_CHARACTERS:
        return None
    # Not to infinity, which no metric is computed of.
    return outputs.float().clamp(-_LARGEST, _LARGEST).half().cpu()


def pack(answers: Sequence[Tensor]) -> ValidationOutputs | None:
    """Pack the answers of the epochs whose mean is a trial's value; None where that is longer than a message may be.

    Args:
        answers: The result of `answers_of` after each of these epochs, the last one last.
    """
    array = torch.stack(list(answers)).numpy()
    hits = array.dtype == np.bool_
    content = np.packbits(array) if hits else array.astype("<f2")
    body = base64.b64encode(zlib.compress(content.tobytes(), 9)).decode()
    if len(body) > MOST_CHARACTERS:
        return None
    epochs, rows, columns = array.shape
    return ValidationOutputs(
        form="hits" if hits else "outputs",
        epochs=epochs,
        rows=rows,
        columns=columns,
        body=body,
    )


def unpack(packed: ValidationOutputs) -> NDArray[np.bool_ | np.float16]:
    """Return the answers `(epochs, rows, columns)`: whether each is right, bool, or the outputs, float16.

    Raises:
        ValueError: The body is not what the other fields say.
    """
    shape = packed.epochs, packed.rows, packed.columns
    count = packed.epochs * packed.rows * packed.columns
    length = (count + 7) // 8 if packed.form == "hits" else 2 * count
    # No more than announced: a few bytes may unfold to any length.
    unfolding = zlib.decompressobj()
    try:
        content = unfolding.decompress(base64.b64decode(packed.body, validate=True), length + 1)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"validation outputs that cannot be unpacked: {error}") from error
    if len(content) != length:
        raise ValueError(f"validation outputs of other bytes than the {length} announced")
    if packed.form == "outputs":
        return np.frombuffer(content, "<f2").reshape(shape)
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=count)
    return bits.astype(np.bool_).reshape(shape)
