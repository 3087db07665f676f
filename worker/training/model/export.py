"""A trained model as one file, and the file as something that predicts."""

import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher
from worker.data import TaskData
from worker.data.errors import UnreadableImages
from worker.data.images.encoding import encode_files, encoding_of
from worker.data.images.pixels import SIXTEEN_BITS, Form
from worker.data.targets import Target
from worker.training import safetensors_files
from worker.training.errors import ModelUnreadable
from worker.training.model import backbones, heads
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, CardTarget, ModelCard, Precision, Scores
from worker.training.model.user_backbones import OwnBackbones

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


class Predictor:
    """An exported model, which computes what was measured: in the precision of its evaluation.

    Attributes:
        card: The model card from its file.
        model: The network with its input layer, in evaluation mode.
    """

    def __init__(self, card: ModelCard, model: Backbone) -> None:
        self.card = card
        self.model = model.eval().to(memory_format=model.input.memory_format)

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
        side, _, channels = self.card.shape
        form = Form(side, channels, self.card.recipe.resize, self.card.levels)
        encoded = encode_files(pictures, encoding_of(form))
        stored = [one for one in encoded if not isinstance(one, str)]
        predictions = (
            self._prediction(row)
            for start in range(0, len(stored), BATCH_SIZE)
            for row in self._outputs(np.stack(stored[start : start + BATCH_SIZE]))
        )
        return [
            Unreadable(one) if isinstance(one, str) else next(predictions) for one in encoded
        ]

    def _outputs(self, batch: NDArray[np.uint8]) -> Tensor:
        """Return the outputs `(N, classes)` in float64, where a softmax adds up to 1 for everybody who looks."""
        card = self.card
        with (
            torch.inference_mode(),
            _computes_in(card.precision),
            _head_computes_in(self.model.head, card.precision, card.head_precision),
        ):
            return self.model(torch.from_numpy(batch)).double()

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


def make_card(
    model: Backbone,
    data: TaskData,
    *,
    recipe: Recipe,
    seed: int,
    scores: Scores,
    pretrained: Model | None = None,
    teacher: Teacher | None = None,
    fonts: Mapping[str, str] | None = None,
    precision: Precision = "float32",
    head_precision: Precision = "float32",
) -> ModelCard:
    """Describe a trained model; the arguments are the fields of `ModelCard`."""
    return ModelCard(
        backbone=model.name,
        kind=data.kind,
        classes=model.classes,
        targets=() if data.kind == "classification" else tuple(map(_on_card, data.targets)),
        shape=data.train.inputs.shape[1:],
        levels=tuple(data.details.get("levels", SIXTEEN_BITS)),
        input=model.input.card(),
        recipe=recipe,
        pretrained=pretrained,
        teacher=teacher,
        precision=precision,
        head_precision=head_precision,
        seed=seed,
        data_sha256=data.sha256,
        counts={str(part): count for part, count in data.counts.items()},
        scores=scores,
        fonts=fonts or {},
    )


def _on_card(target: Target) -> CardTarget:
    return CardTarget(
        name=target.name,
        kind=target.kind,
        classes=target.classes,
        mean=target.mean,
        std=target.std,
    )


def export(path: Path, model: Backbone, *, card: ModelCard) -> None:
    """Write a model with its card; the file appears whole or not at all."""
    weights = {name: tensor.cpu() for name, tensor in model.network.state_dict().items()}
    # A name of its own, since two exports to one path may run at once; the last to finish stays, whole.
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        safetensors_files.write(beside, weights, {CARD_KEY: card.model_dump_json()})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_card(path: Path) -> ModelCard:
    """Read what a model file says of itself.

    Raises:
        ModelUnreadable: It is missing, corrupt, or was not exported by trimtab.
    """
    try:
        return ModelCard.model_validate_json(safetensors_files.read_metadata(path)[CARD_KEY])
    except KeyError as error:
        raise ModelUnreadable(
            path, "it has no model card; was it exported by trimtab?"
        ) from error
    except ValidationError as error:
        raise ModelUnreadable(path, "its card is of another release of trimtab") from error
    except safetensors_files.SafetensorError as error:
        raise ModelUnreadable(
            path, f"it is not a safetensors file, as trimtab exports them: {error}"
        ) from error
    except OSError as error:
        raise ModelUnreadable(path, str(error)) from error


def load_exported(path: Path, *, own: OwnBackbones | None = None) -> Predictor:
    """Open a model file; `own` are the backbones that are registered here.

    The network comes from its backbone's code, its weights and what is done to samples before it from the file.

    Raises:
        ModelUnreadable: It is missing, corrupt, or was not exported by trimtab.
        BackboneError: Its backbone is a person's own, and not registered here or no longer the same.
    """
    card = read_card(path)
    try:
        plain = Model(backbone=card.backbone, weights="none")
        weights, _ = safetensors_files.read(path)
    except ValidationError as error:
        raise ModelUnreadable(path, f"this release knows no {card.backbone}") from error
    except (safetensors_files.SafetensorError, OSError) as error:
        raise ModelUnreadable(path, str(error)) from error
    head = heads.of(card.recipe, card.kind)
    model = backbones.build(plain, classes=card.classes, seed=0, own=own, head=head)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelUnreadable(path, f"its tensors are not those of {card.backbone}") from error
    # The layer is built from the file: the code of a later release may normalise in another way.
    model.input = backbones.input_layer(card.input, model.input)
    return Predictor(card, model)
