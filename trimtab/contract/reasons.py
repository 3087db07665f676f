"""Why a trial was paused, stopped or chosen: what a person is told of it."""

from typing import Annotated

from pydantic import Field

from trimtab.contract.message import Int, Message, Number, Text

LONGEST = 1000
"""The number of characters that the sentence of a reason may have."""
AUDIT = "audit"
"""The rule of a trial that runs to its end although another rule would have stopped or paused it."""


class Expected(Message):
    """The value that a trial is expected to end with, in the objective's own unit, and its 95 % interval."""

    value: Number
    low: Number
    high: Number


class Reason(Message):
    """Why the search did with a trial what it did."""

    rule: Annotated[Text, Field(max_length=100)]
    """The rule that decided, such as `median`, `asha` or `freeze_thaw`; `audit`, where that let a trial run on."""
    text: Annotated[Text, Field(max_length=LONGEST)]
    """The decision in a sentence, with the numbers that it was made of."""
    epoch: Annotated[Int, Field(ge=0)] = 0
    """The number of epochs that the trial had when it was decided; 0 for a trial that had none."""
    expected: Expected | None = None
    """Null where the rule predicts nothing."""
