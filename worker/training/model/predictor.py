"""An exported model at work: from pictures to predictions."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from worker.data.errors import UnreadableImages
from worker.data.images.encoding import encode_files, encoding_of
from worker.data.images.pixels import Form
from worker.training.model.averaging import average
from worker.training.model.backbones import Backbone
from worker.training.model.card import CardMember, CardTarget, ModelCard

BATCH_SIZE = 256
"""As many as an evaluation takes at once."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest class of a picture, and the probability of each."""

    class_name: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Number:
    """A number, in its target's own unit."""

    value: float


@dataclass(frozen=True, slots=True)
class Chance:
    """The probability that a yes or no is a yes."""

    probability: float


Predictions = Prediction | Mapping[str, Prediction | Number | Chance]
"""The prediction for one picture: its class, or, for a task with targets, the prediction of each target by its name."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The reason why a file could not be predicted."""

    reason: str


class Member:
    """One model of a file, which computes what was measured: in the precision of its evaluation.

    Attributes:
        card: The file's card, as far as it is about this model.
        model: The network with its input layer, in evaluation mode.
        form: The form of the pictures that it takes.
    """

    def __init__(self, card: CardMember, model: Backbone) -> None:
        side, _, channels = card.shape
        self.card = card
        self.model = model.eval().to(memory_format=model.input.memory_format)
        scaled = card.interpolation, card.crop
        self.form = Form(side, channels, card.recipe.resize, card.levels, *scaled)

    def outputs(self, batch: NDArray[np.uint8]) -> Tensor:
        """Return the outputs `(N, width)` in float64, where a softmax adds up to 1 for everybody who looks."""
        own = self.card
        with (
            torch.inference_mode(),
            _computes_in(own.precision),
            _head_computes_in(self.model.head, own.precision, own.head_precision),
        ):
            return self.model(torch.from_numpy(batch)).double()


class Predictor:
    """An exported model. Several in one file answer by the average of their probabilities.

    Attributes:
        card: The model card from its file.
        members: The models in the file, mostly one.
    """

    def __init__(self, card: ModelCard, members: Sequence[Member]) -> None:
        self.card = card
        self.members = tuple(members)

    def combine(self, outputs: Sequence[Tensor]) -> Tensor:
        """Return the outputs of the whole, `(N, width)`, of those of each member; of a single one they are its own."""
        if len(outputs) == 1:
            return outputs[0]
        return average(outputs, [member.card.targets for member in self.members])

    def predict(self, pictures: Sequence[Path | Image.Image]) -> list[Predictions]:
        """Predict of pictures, given as files or as Pillow images.

        Raises:
            UnreadableImages: Some files are missing, broken or too large; each is named.
        """
        found = self.predict_readable(pictures)
        # All are tried before any is refused: a person who mends one file should not meet the next one afterwards.
        if reasons := {
            Path(str(picture)): one.reason
            for picture, one in zip(pictures, found, strict=True)
            if isinstance(one, Unreadable)
        }:
            raise UnreadableImages(reasons)
        return [one for one in found if not isinstance(one, Unreadable)]

    def predict_readable(
        self, pictures: Sequence[Path | Image.Image]
    ) -> list[Predictions | Unreadable]:
        """Predict of those pictures that can be read; of the others, tell why they cannot."""
        forms = {member.form for member in self.members}
        # Members may take pictures of other sizes: each form is decoded once.
        encoded = {form: encode_files(pictures, encoding_of(form)) for form in forms}
        reasons = [
            next((one for one in forms_of_one if isinstance(one, str)), None)
            for forms_of_one in zip(*encoded.values(), strict=True)
        ]
        readable = [row for row, reason in enumerate(reasons) if reason is None]
        predictions = self._predictions(encoded, readable)
        return [
            next(predictions) if reason is None else Unreadable(reason) for reason in reasons
        ]

    def _predictions(
        self, encoded: Mapping[Form, Sequence[NDArray[np.uint8] | str]], rows: Sequence[int]
    ) -> Iterator[Predictions]:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            stored = {
                form: np.stack([cast(NDArray[np.uint8], pictures[row]) for row in batch])
                for form, pictures in encoded.items()
            }
            outputs = [member.outputs(stored[member.form]) for member in self.members]
            yield from map(self._prediction, self.combine(outputs))

    def _prediction(self, outputs: Tensor) -> Predictions:
        if self.card.kind == "classification":
            return _class_of(outputs, self.card.classes)
        widths = [len(target.classes) or 1 for target in self.card.targets]
        columns = torch.split(outputs, widths)
        return {
            target.name: _of_target(target, own)
            for target, own in zip(self.card.targets, columns, strict=True)
        }


def _computes_in(precision: str) -> torch.autocast:
    """Compute in what the card says, also where the processor has no instructions for it: there it takes longer."""
    dtype = getattr(torch, precision)
    return torch.autocast("cpu", dtype, enabled=dtype != torch.float32)


@contextmanager
def _head_computes_in(head: nn.Module, precision: str, own: str) -> Generator[None]:
    """Let the head compute in float32 where it was measured so, on features of a lower precision."""
    if own == precision:
        yield
        return

    def begin(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        torch.set_autocast_enabled("cpu", False)
        return tuple(one.float() for one in inputs)

    def end(_: nn.Module, __: tuple[Tensor, ...], ___: Tensor) -> None:
        torch.set_autocast_enabled("cpu", True)

    hooks = head.register_forward_pre_hook(begin), head.register_forward_hook(end)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _of_target(target: CardTarget, outputs: Tensor) -> Prediction | Number | Chance:
    match target.kind:
        case "classification":
            return _class_of(outputs, target.classes)
        case "regression":
            return Number(outputs.item() * target.std + target.mean)
        case "binary":
            return Chance(outputs.sigmoid().item())


def _class_of(outputs: Tensor, classes: Sequence[str]) -> Prediction:
    probabilities = cast(list[float], outputs.softmax(dim=0).tolist())
    named = dict(zip(classes, probabilities, strict=True))
    return Prediction(max(named, key=named.__getitem__), named)
