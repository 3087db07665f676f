"""An exported model at work: from pictures or texts to predictions."""

from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from worker.data.errors import UnreadableImages
from worker.data.text.tokenizer import Content
from worker.training.model.averaging import average
from worker.training.model.backbones import Backbone
from worker.training.model.card import CardMember, CardTarget, ModelCard, TokenCard
from worker.training.model.sample_encoders import encoder_of

BATCH_SIZE = 256
"""As many as an evaluation takes at once."""


Given = Path | Image.Image | Content
"""A sample as a person gives it: a picture as a file or as a Pillow image; a text, or a pair of texts."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest class of a sample, and the probability of each."""

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
"""The prediction for one sample: its class, or, for a task with targets, the prediction of each target by its name."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The reason why a sample could not be predicted."""

    reason: str


class Member:
    """One model of a file, which computes what was measured: in the precision of its evaluation.

    Attributes:
        card: The file's card, as far as it is about this model.
        model: The network with its input layer, in evaluation mode.
        encoder: Turns samples into what it takes.
    """

    def __init__(self, card: CardMember, model: Backbone, path: Path) -> None:
        self.card = card
        self.model = model.eval().to(memory_format=model.input.memory_format)
        self.encoder = encoder_of(card, model.tokenizer, path)

    def outputs(self, batch: NDArray[Any]) -> Tensor:
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
        cards = [member.card for member in self.members]
        return average(
            outputs,
            [card.targets for card in cards],
            weights=[card.weight for card in cards],
        )

    def predict(self, samples: Sequence[Given]) -> list[Predictions]:
        """Predict of pictures, given as files or as Pillow images, or of texts and pairs of texts.

        Raises:
            UnreadableImages: Some files are missing, broken or too large, or texts are not what the model takes; each is
                named.
        """
        found = self.predict_readable(samples)
        # All are tried before any is refused: a person who mends one file should not meet the next one afterwards.
        if reasons := {
            Path(str(sample)): one.reason
            for sample, one in zip(samples, found, strict=True)
            if isinstance(one, Unreadable)
        }:
            what = "text" if isinstance(self.card.input, TokenCard) else "picture"
            raise UnreadableImages(reasons, what)
        return [one for one in found if not isinstance(one, Unreadable)]

    def predict_readable(self, samples: Sequence[Given]) -> list[Predictions | Unreadable]:
        """Predict of those samples that can be read; of the others, tell why they cannot."""
        misfits = [self._misfit(sample) for sample in samples]
        fit = [sample for sample, why in zip(samples, misfits, strict=True) if why is None]
        found = iter(self._predict_fit(fit))
        return [next(found) if why is None else Unreadable(why) for why in misfits]

    def _misfit(self, sample: Given) -> str | None:
        """Return why a text, or a pair of them, is not what the model was trained on."""
        if not isinstance(self.card.input, TokenCard):
            return None
        if not isinstance(sample, str | tuple):
            return "it is no text, and the model reads texts"
        # Cards that name no columns do not tell how many texts make a sample.
        if len(self.card.texts) == 1 and isinstance(sample, tuple):
            return "it is a pair, and the model reads single texts"
        if len(self.card.texts) == 2 and isinstance(sample, str):
            return "it is a single text, and the model reads pairs"
        return None

    def _predict_fit(self, samples: Sequence[Given]) -> list[Predictions | Unreadable]:
        # Members may take samples in other forms: each form is encoded once.
        encoders = {member.encoder.key: member.encoder for member in self.members}
        encoded = {key: encoder.encode(samples) for key, encoder in encoders.items()}
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
        self, encoded: Mapping[Hashable, Sequence[NDArray[Any] | str]], rows: Sequence[int]
    ) -> Iterator[Predictions]:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            stored = {
                member.encoder.key: member.encoder.together(
                    [cast(NDArray[Any], encoded[member.encoder.key][row]) for row in batch]
                )
                for member in self.members
            }
            outputs = [member.outputs(stored[member.encoder.key]) for member in self.members]
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
