"""The teacher of knowledge distillation: a model whose outputs a study's trials learn in addition to the labels.

Source: Hinton et al., 2015, https://arxiv.org/abs/1503.02531.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from trimtab.contract.message import Int, Message, Name, Sha256, Text

MODEL_SUFFIX = ".safetensors"


class Artifact(Message):
    """A file that the service keeps, named by its content."""

    sha256: Sha256
    bytes: Annotated[Int, Field(ge=1)]


class StudyTeacher(Message):
    """The model of an earlier study of this service."""

    kind: Literal["study"]
    name: Name = Field(description="The name of a study that is done.")
    model: Artifact | None = Field(
        default=None,
        description="The exported model of that study. The service fills it in when it creates the student's study, "
        "so that every trial has the same teacher; if it is given, another model is refused.",
    )


def _exported(path: str) -> str:
    if path.endswith(MODEL_SUFFIX):
        return path
    raise ValueError(f"a model that trimtab exported ends in {MODEL_SUFFIX}")


class FileTeacher(Message):
    """A model that trimtab exported, in a file that the workers can read."""

    kind: Literal["file"]
    path: Annotated[Text, Field(max_length=4096), AfterValidator(_exported)] = Field(
        description="The path of the file on the workers."
    )


Teacher = Annotated[StudyTeacher | FileTeacher, Field(discriminator="kind")]
