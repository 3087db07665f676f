"""The base of every message, and the scalar types that messages are made of."""

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
)

from trimtab.contract.text import refuse_surrogates_and_nul

Int = Annotated[int, Strict()]
"""A whole number; `1.0`, `"1"` and `true` are refused."""

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
"""A finite number; `"1.5"`, `true`, NaN and the infinities are refused."""

Flag = Annotated[bool, Strict()]

Text = Annotated[str, BeforeValidator(refuse_surrogates_and_nul)]
"""Text that Postgres can store: no NUL, no lone surrogate."""

LONGEST_NAME = 63
_NAME = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


def _check_name(name: str) -> str:
    """Refuse what is no name in words, which a pattern is not; a refused value is never repeated."""
    if re.fullmatch(_NAME.strip("^$"), name):
        return name
    raise ValueError(
        f"a name has 1 to {LONGEST_NAME} lower-case letters (a to z), digits, dots, hyphens and underscores, and "
        "begins and ends with a letter or digit, such as my-flowers"
    )


Name = Annotated[
    Text, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": _NAME})
]
"""A study's or a label's name: 1 to 63 of `a-z 0-9 . _ -`, beginning and ending with a letter or digit."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Message(BaseModel):
    """The base class: frozen, and it refuses unknown fields, so that a misspelt field is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
