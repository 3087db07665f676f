"""What a search takes over from earlier studies: their best configurations, those of the nearest data first."""

from collections.abc import Mapping
from typing import Annotated, Literal, cast, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from trimtab.contract.message import Message, Name, Number

TransferWord = Literal["auto", "done_studies", "none"]
"""All studies of the kind that are done; the same, to move priors and the order of known recipes alone; none."""

STUDY = "study:"
"""What proposed a trial, before its name: an earlier study that has this configuration among its two best."""

Part = Literal["size", "classes", "balance", "input_size", "features", "model"]
"""What two studies are held against each other by: the number of training samples; the number of classes; how evenly these
are filled; the pictures' side; what one backbone makes of the samples; the backbone and its weights."""


def _refuse_other_words(given: object) -> object:
    is_word = isinstance(given, str) and given in get_args(TransferWord)
    if not is_word and not isinstance(given, list | tuple):
        message = (
            "is `auto`, `none`, or a list of names of studies that are done, as [my-flowers]"
        )
        raise PydanticCustomError("transfer_type", message)
    return cast("object", given)


Transfer = Annotated[
    Annotated[TransferWord, Tag("word")]
    | Annotated[tuple[Name, ...], Field(min_length=1, max_length=20), Tag("names")],
    Discriminator(lambda given: "word" if isinstance(given, str) else "names"),
    BeforeValidator(_refuse_other_words),
]
"""The studies that a search begins with the best configurations of, in a word or by their names."""


class Source(Message):
    """An earlier study whose best configurations were looked at when a study's first trial had told its data."""

    study: str
    distance: Number
    """0: the same data and the same model. The root of the sum of the squares of the parts, where what is not known is 1."""
    parts: Mapping[Part, Number | None]
    """Each part of the distance, from 0 (alike) on; null where one of the two is not known."""
    points: int = 0
    """The number of its configurations that this study tries."""
    guesses: bool = False
    """Whether its best accuracy may as well have come from guessing its largest class: then nothing of it is tried."""
