"""The model card: what a model file says of itself, and all that is needed to use it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, model_validator

from trimtab.contract.datasets import Modality
from trimtab.contract.message import Int, Message, Number, Sha256, Text
from trimtab.contract.metrics import TargetKind, TaskKind
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher
from worker.data.images.pixels import SIXTEEN_BITS
from worker.data.modality import Interpolation
from worker.training.errors import MembersUnlike

CARD_KEY = "trimtab.model"
"""The name in the metadata of a safetensors file under which the card stands, as JSON."""


Precision = Literal["float32", "bfloat16", "float16"]
_Size = Annotated[Int, Field(ge=1, le=65_536)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Statistics = Annotated[tuple[float, ...], Field(min_length=1)]


class Scores(Message):
    """The scores of a model. Accuracies are in [0, 1]; those on the test split are measured once, at the end."""

    objective: str = "accuracy"
    """The metric that trials were compared by."""
    metrics: Mapping[str, float] = Field(default_factory=dict[str, float])
    """All that was measured, by its name: `validation_rmse`, `test_rmse`, `test_rmse_before`, ..."""
    validation_accuracy: float | None = None
    """Null where the task knows no accuracy, like the others below."""
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_count: int | None = None
    test_accuracy_before: float | None = None
    """The test accuracy of the pretrained model before any training on this task."""
    linear_probe_test_accuracy: float | None = None
    """The test accuracy of a linear classifier on the frozen pretrained backbone's features."""


class CardTarget(Message):
    """One target and its outputs of the last layer; a number is `mean` plus `std` times its output."""

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0


class ImageCard(Message):
    """The description of an `ImageInput`: enough to build the layer with the same bits."""

    kind: Literal["image"]
    mean: _Statistics
    std: _Statistics
    least_side: _Size
    only_side: _Size | None
    example_side: _Size


class ImageStatistics(Message):
    """The description in files from before the input layer was on the card; the backbone gives the sides."""

    kind: Literal["image_statistics"]
    mean: _Statistics
    std: _Statistics


_Id = Annotated[Int, Field(ge=0)]
_Count = Annotated[Int, Field(ge=1, le=100_000_000)]


class TokenCard(Message):
    """The description of a `TokenInput`: enough to build the layer with the same bits."""

    kind: Literal["tokens"]
    sha256: Sha256
    """Hash of the tokenizer, which stands in the metadata of the file under `tokenizer_key`."""
    vocab_size: _Count
    pad_id: _Id
    cls_id: _Id | None
    """The word piece that begins a text; null where there is none."""
    sep_id: _Id | None
    """The word piece that ends a text; null where there is none."""
    unk_id: _Id | None
    """The word piece that stands for an unknown one; null where there is none."""
    token_types: Annotated[Int, Field(ge=0, le=16)]
    positions: _Count
    """The most word pieces that the network takes."""


class EncoderCard(Message):
    """The shape of an encoder of BERT's family: enough to build the network."""

    shares_layers: ClassVar[bool] = False
    kind: Literal["bert"] = "bert"
    vocab_size: _Count
    """Rows of the table of word pieces."""
    width: _Size
    layers: _Size
    heads: _Size
    feed_forward: _Size
    """Units between the two linear layers of each layer's feed-forward network."""
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"]
    positions: _Count
    first_position: _Id
    """Rows of the table of positions before the first one that is used."""
    token_types: Annotated[Int, Field(ge=0, le=16)]
    embedding_width: _Size
    norm_eps: Annotated[Number, Field(gt=0)]
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    attention_dropout: Annotated[Number, Field(ge=0, lt=1)]
    pad_id: _Id


class LibraryEncoderCard(Message):
    """The shape of an encoder of transformers: enough to build the network where that library is."""

    kind: Literal["hf"]
    library: Text
    """The library and its release that read the folder."""
    model_type: Text
    """The word by which transformers knows the network."""
    config: Mapping[str, Any]
    """Its configuration, as the library writes it."""
    vocab_size: _Count
    width: _Size
    layers: _Size
    shares_layers: bool
    """Whether texts pass the same layer several times, as in ALBERT."""
    positions: _Count
    token_types: Annotated[Int, Field(ge=0, le=16)]
    pad_id: _Id | None
    """The word piece that stands behind the end of a text; null where only the tokenizer says so."""


NetworkCard = Annotated[EncoderCard | LibraryEncoderCard, Field(discriminator="kind")]
"""The shape of a network for texts, told apart by `kind`."""
InputCard = ImageCard | TokenCard
"""The description of an input layer, whatever its modality; told apart by `kind`."""


def tokenizer_key(sha256: str) -> str:
    """Return the name in the metadata of a model's file under which the tokenizer of this hash stands, as JSON."""
    return f"trimtab.tokenizer.{sha256}"


class CardMember(Message):
    """One of several models in a file; each field is the field of `ModelCard` that has its name."""

    backbone: Text | None = None
    """Null in files of releases whose members all had the card's backbone."""
    pretrained: Model | None = None
    targets: tuple[CardTarget, ...] = ()
    shape: Annotated[tuple[_Size, ...], Field(min_length=1, max_length=3)]
    levels: tuple[int, int] = SIXTEEN_BITS
    interpolation: Interpolation = "bilinear"
    crop: _Share = 1.0
    input: Annotated[InputCard | ImageStatistics, Field(discriminator="kind")]
    network: NetworkCard | None = None
    recipe: Recipe
    precision: Precision = "float32"
    head_precision: Precision = "float32"
    seed: int
    weight: Annotated[Number, Field(gt=0)] = 1.0
    """How often it counts in the average; no field of `ModelCard`."""


class ModelCard(Message):
    """Written into the metadata of a model's file, which needs nothing else to predict."""

    backbone: Text
    kind: TaskKind = "classification"
    classes: tuple[str, ...]
    """Names of the last layer's outputs, in order: for a classification its classes."""
    targets: tuple[CardTarget, ...] = ()
    """The targets of a task that is not a single classification."""
    shape: Annotated[tuple[_Size, ...], Field(min_length=1, max_length=3)]
    """The stored samples that it was trained on: of pictures side, side, and 1 channel if they were grey, else 3; of texts
    the number of word pieces.
    """
    levels: tuple[int, int] = SIXTEEN_BITS
    """The numbers of black and white in pictures of more than 8 bits a pixel."""
    interpolation: Interpolation = "bilinear"
    """The way in which pictures are scaled."""
    crop: _Share = 1.0
    """The share of the shorter side that is kept of pictures that are cropped."""
    texts: Annotated[tuple[Text, ...], Field(max_length=2)] = ()
    """The columns of the texts that it was trained on, two of them for pairs; none of pictures."""
    input: Annotated[InputCard | ImageStatistics, Field(discriminator="kind")]
    """The model's first layer, which is built from this."""
    network: NetworkCard | None = None
    """The network's shape, where its backbone's name does not tell it."""
    recipe: Recipe
    pretrained: Model | None = None
    """The model that training began with; None for random weights."""
    teacher: Teacher | None = None
    """The model whose answers it learned beside the labels; None where nobody taught it."""
    precision: Precision = "float32"
    """What the network computed in when it was measured, and computes in when it predicts."""
    head_precision: Precision = "float32"
    """The same of its last layers, which a training on kept features computes apart."""
    seed: int
    data_sha256: str
    counts: Mapping[str, int]
    """Samples in each split."""
    scores: Scores
    fonts: Mapping[str, str] = Field(default_factory=dict[str, str])
    """The sha256 and the name of every font, for a model that was pretrained on glyphs."""
    members: tuple[CardMember, ...] = ()
    """The models whose probabilities are averaged; empty where the file holds one.

    The fields of the same names above are the first member's.
    """

    @model_validator(mode="before")
    @classmethod
    def _read_the_form_of_before(cls, card: object) -> object:
        """Files that were exported before cards had `input` say side, channels and statistics by themselves."""
        if not isinstance(card, dict) or "input" in card or "image_size" not in card:
            return cast(object, card)
        told = dict(cast(dict[str, Any], card))
        side, channels = told.pop("image_size"), told.pop("channels", None)
        statistics = {name: told.pop(name, None) for name in ("mean", "std")}
        told["shape"] = (side, side, channels)
        told["input"] = {"kind": "image_statistics", **statistics}
        return told

    @property
    def reads(self) -> Modality:
        """What the model predicts of."""
        return "text" if isinstance(self.input, TokenCard) else "image"

    def each(self) -> tuple[CardMember, ...]:
        """Return what the card says of each model in the file."""
        return self.members or (self._member(),)

    def _member(self) -> CardMember:
        own = {
            name: getattr(self, name) for name in CardMember.model_fields if name != "weight"
        }
        return CardMember.model_validate(own)


def together(
    cards: Sequence[ModelCard], *, scores: Scores, weights: Sequence[float] | None = None
) -> ModelCard:
    """Describe a file of several models whose probabilities are averaged.

    Args:
        cards: The cards of the models, the one whose fields the file's card has first.
        scores: The scores of the average.
        weights: The weight of each model; None: all alike.

    Raises:
        MembersUnlike: They do not tell the same classes or targets apart.
    """
    first, *others = cards
    for number, other in enumerate(others, 2):
        if (reason := _difference(first, other)) is not None:
            raise MembersUnlike(number, reason)
    members = tuple(
        card.each()[0].model_copy(update={"weight": weight})
        for card, weight in zip(cards, weights or [1.0] * len(cards), strict=True)
    )
    teacher = next((card.teacher for card in cards if card.teacher is not None), None)
    return first.model_copy(update={"members": members, "scores": scores, "teacher": teacher})


def _difference(one: ModelCard, other: ModelCard) -> str | None:
    if one.kind != other.kind:
        return f"it is a {other.kind}, not a {one.kind}"
    if one.classes != other.classes or not same_targets(one.targets, other.targets):
        return "its classes or targets are others, or in another order"
    return None


def same_targets(one: Sequence[CardTarget], other: Sequence[CardTarget]) -> bool:
    """Tell whether outputs stand for the same; mean and deviation of a number may differ."""
    return [_meaning(target) for target in one] == [_meaning(target) for target in other]


def _meaning(target: CardTarget) -> tuple[str, TargetKind, tuple[str, ...]]:
    return target.name, target.kind, target.classes
