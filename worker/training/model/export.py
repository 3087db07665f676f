"""A trained model as one file, and the file as something that predicts."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher
from worker.data import TaskData
from worker.data.images.encoding import encode_files, encoding_of
from worker.data.images.pixels import SIXTEEN_BITS, Form
from worker.data.targets import Target
from worker.training import safetensors_files
from worker.training.errors import ModelUnreadable
from worker.training.model import backbones, heads
from worker.training.model.backbones import Backbone
from worker.training.model.card import CARD_KEY, CardTarget, ModelCard, Scores
from worker.training.model.user_backbones import OwnBackbones

_BATCH_SIZE = 256


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


class Predictor:
    """An exported model.

    Attributes:
        card: The model card from its file.
        model: The network with its input layer, in evaluation mode.
    """

    def __init__(self, card: ModelCard, model: Backbone) -> None:
        self.card = card
        self.model = model.eval()

    def predict(self, pictures: Sequence[Path | Image.Image]) -> list[Predictions]:
        """Predict of pictures, given as files or as Pillow images.

        Raises:
            UnreadableImages: Some files are missing, broken or too large; each is named.
        """
        side, _, channels = self.card.shape
        form = Form(side, channels, self.card.recipe.resize, self.card.levels)
        stored = encode_files(pictures, encoding_of(form))
        predictions: list[Predictions] = []
        for start in range(0, len(stored), _BATCH_SIZE):
            batch = torch.from_numpy(np.stack(stored[start : start + _BATCH_SIZE]))
            with torch.inference_mode():
                # In float64, where the probabilities of a softmax add up to 1 for everybody who looks.
                outputs = self.model(batch).double()
            predictions += [self._prediction(row) for row in outputs]
        return predictions

    def _prediction(self, outputs: Tensor) -> Predictions:
        if self.card.kind == "classification":
            return _class_of(outputs, self.card.classes)
        widths = [len(target.classes) or 1 for target in self.card.targets]
        columns = torch.split(outputs, widths)
        return {
            target.name: _of_target(target, own)
            for target, own in zip(self.card.targets, columns, strict=True)
        }


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
