"""A trained model as one file, and the file as something that predicts."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from trimtab.contract.teachers import Teacher
from worker.data import TaskData
from worker.data.images.pixels import SIXTEEN_BITS
from worker.data.targets import Target
from worker.training import safetensors_files
from worker.training.errors import ModelUnreadable
from worker.training.model import backbones, heads, text_models
from worker.training.model.backbones import Backbone
from worker.training.model.card import (
    CARD_KEY,
    CardMember,
    CardTarget,
    ModelCard,
    Precision,
    Scores,
    TokenCard,
    same_targets,
    tokenizer_key,
)
from worker.training.model.predictor import Member, Predictor
from worker.training.model.token_input import TokenInput
from worker.training.model.user_backbones import OwnBackbones


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
        interpolation=data.details.get("interpolation", "bilinear"),
        crop=data.details.get("crop", 1.0),
        texts=tuple(data.details.get("columns", ())),
        input=model.input.card(),
        network=model.shape,
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
    _write(path, _weights_of(model), card, _tokenizers([model]))


def export_together(path: Path, models: Sequence[Backbone], *, card: ModelCard) -> None:
    """Write several models as one file; it appears whole or not at all.

    Args:
        path: The file. The tensors of its models begin with `0/`, `1/` and so on.
        models: The models, in the order of the card's members.
        card: The card of all (`card.together`).
    """
    weights = {
        f"{number}/{name}": tensor
        for number, model in enumerate(models)
        for name, tensor in _weights_of(model).items()
    }
    _write(path, weights, card, _tokenizers(models))


def _weights_of(model: Backbone) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in model.network.state_dict().items()}


def _tokenizers(models: Sequence[Backbone]) -> dict[str, str]:
    """Return the tokenizers of models for texts, by their names in the file; several mostly have one."""
    return {
        tokenizer_key(card.sha256): model.tokenizer
        for model in models
        if isinstance(card := model.input.card(), TokenCard)
    }


def _write(
    path: Path, weights: Mapping[str, Tensor], card: ModelCard, tokenizers: Mapping[str, str]
) -> None:
    # A name of its own, since two exports to one path may run at once; the last to finish stays, whole.
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        about = {CARD_KEY: card.model_dump_json(), **tokenizers}
        safetensors_files.write(beside, weights, about)
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
        weights, metadata = safetensors_files.read(path)
    except (safetensors_files.SafetensorError, OSError) as error:
        raise ModelUnreadable(path, str(error)) from error
    members = [
        _member(path, card, one, own_weights, own, metadata)
        for one, own_weights in _by_member(path, card, weights)
    ]
    return Predictor(card, members)


def _by_member(
    path: Path, card: ModelCard, weights: dict[str, Tensor]
) -> list[tuple[CardMember, dict[str, Tensor]]]:
    """Return what belongs to each model of the file: its part of the card, and its tensors by their names in it."""
    if not card.members:
        return [(card.each()[0], weights)]
    if not all(same_targets(card.targets, member.targets) for member in card.members):
        raise ModelUnreadable(path, "its models do not have the same targets")
    own: list[dict[str, Tensor]] = [{} for _ in card.members]
    for name, tensor in weights.items():
        number, _, rest = name.partition("/")
        if not number.isdecimal() or int(number) >= len(own):
            raise ModelUnreadable(
                path, f"its tensor {name} is of none of its {len(own)} models"
            )
        own[int(number)][rest] = tensor
    return list(zip(card.members, own, strict=True))


def _member(
    path: Path,
    card: ModelCard,
    member: CardMember,
    weights: dict[str, Tensor],
    own: OwnBackbones | None,
    metadata: Mapping[str, str],
) -> Member:
    tokenizer = ""
    if isinstance(member.input, TokenCard):
        tokenizer = metadata.get(tokenizer_key(member.input.sha256), "")
        if not tokenizer:
            raise ModelUnreadable(path, "it lacks the tokenizer that its card names")
    model = _built(path, card, member, tokenizer, own)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelUnreadable(path, f"its tensors are not those of {model.name}") from error
    # The layer is built from the file: the code of a later release may normalise in another way.
    model.input = backbones.input_layer(member.input, model.input)
    return Member(member, model, path)


def _built(
    path: Path, card: ModelCard, member: CardMember, tokenizer: str, own: OwnBackbones | None
) -> Backbone:
    """Make the network of a model in a file, with random weights."""
    backbone = member.backbone or card.backbone
    head = heads.of(member.recipe, card.kind)
    if member.network is not None and isinstance(member.input, TokenCard):
        layer = TokenInput(member.input)
        shown = text_models.of_shape(member.network, len(card.classes), layer, tokenizer)
        model = Backbone(backbone, card.classes, shown)
        model.put_head(head)
        return model
    try:
        plain = Model(backbone=backbone, weights="none")
    except ValidationError as error:
        raise ModelUnreadable(path, f"this release knows no {backbone}") from error
    return backbones.build(plain, classes=card.classes, seed=0, own=own, head=head)
