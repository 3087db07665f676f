"""What trainings took of their devices' memory: remembered, so that later trials start with what fits."""

from typing import Annotated

from pydantic import Field

from trimtab.contract.message import Int, Message, Text

Short = Annotated[Text, Field(min_length=1, max_length=128)]


class MemoryFinding(Message):
    """What one training took, and how many pictures at once fitted."""

    device: Short
    """The device's kind as its maker names it; `cpu` for none."""
    memory_bytes: Annotated[Int, Field(ge=0, lt=2**63)] | None = None
    """How much of it the training might use."""
    backbone: Short
    input_size: Annotated[Int, Field(ge=1, le=65_536)]
    """Length of one sample's first side: of a picture in pixels, of a text in tokens."""
    precision: Short
    frozen_stages: Annotated[Int, Field(ge=0, le=1_000)]
    batch_size: Annotated[Int, Field(ge=1, le=65_536)]
    micro_batch_size: Annotated[Int, Field(ge=1, le=65_536)] | None = None
    """Pictures at once; null where the whole batch fitted."""
    peak_bytes: Annotated[Int, Field(ge=0, lt=2**63)] | None = None


class MemoryFindings(Message):
    """All findings about one backbone."""

    findings: tuple[MemoryFinding, ...]
