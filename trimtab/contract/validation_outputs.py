"""What a trial answered to the rows of the validation split: small enough to travel with its outcome."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab.contract.message import Int, Message

MOST_CHARACTERS = 256 * 1024
"""The longest body. A validation split whose outputs are longer is so large that choosing on it hardly flatters."""


class ValidationOutputs(Message):
    """The answers of the epochs whose mean is the trial's value, the last epoch last, packed.

    - `hits`: one bit for each row, whether the answer is right: where the objective is the accuracy of one target. The
      first row's is the highest bit of the first byte, and no byte begins anew with an epoch.
    - `outputs`: what the network's last layer gave for each row, in float16.

    The order of the rows is that of the validation split, the same for all trials of a study.
    """

    form: Literal["hits", "outputs"]
    epochs: Annotated[Int, Field(ge=1, le=3)]
    rows: Annotated[Int, Field(ge=1)]
    columns: Annotated[Int, Field(ge=1)]
    """Outputs of a row; 1 where the form is `hits`."""
    body: Annotated[str, Field(max_length=MOST_CHARACTERS, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
    """The array `(epochs, rows, columns)` in C order, little-endian, compressed by zlib, in base64."""


class TrialOutputs(Message):
    """The answers of one completed trial."""

    trial_number: int
    value: float
    """Its objective value."""
    outputs: ValidationOutputs


class TrialOutputsPage(Message):
    """Some of a study's completed trials, in the order of their numbers; `next` is what to ask for then."""

    trials: tuple[TrialOutputs, ...]
    next: int | None = None
    """The trial number from which the next page begins; null: this was the last."""
