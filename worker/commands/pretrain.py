"""`trimtab pretrain`: trains glyphnet on rendered glyphs, as the weights that come with trimtab were made."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from trimtab.contract.backbones import GLYPHNET
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data import Split, TaskData
from worker.data.images import glyphs
from worker.data.images.glyphs import CHARACTERS, Typeface
from worker.training.loop.epochs import EpochResult
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.loop.training import load_weights
from worker.training.model import backbones
from worker.training.model.card import Scores
from worker.training.model.export import export, make_card
from worker.training.model.freezing import Freezing
from worker.training.seeding import derive

WEIGHTS_NAME = "glyphnet.safetensors"
_GLYPHS_PER_CLASS = 2000
_VALIDATION = 0.05


def pretrain(out: Path, *, epochs: int, seed: int) -> None:
    """Draw glyphs and train glyphnet on them; print each epoch, and at last the path of the weights.

    Args:
        out: The folder for `glyphnet.safetensors`.
        epochs: The number of passes over the glyphs.
        seed: The seed of the glyphs, the first weights and the order of the glyphs.

    Raises:
        OSError: The file cannot be written.
    """

    def progress(epoch: EpochResult) -> None:
        accuracy = f"{epoch.value:.4f}"
        print(f"epoch {epoch.epoch}: validation accuracy {accuracy}", flush=True)  # noqa: T201

    print(pretrain_glyphs(out, epochs=epochs, seed=seed, progress=progress))  # noqa: T201


def pretrain_glyphs(
    out: Path,
    *,
    epochs: int,
    seed: int,
    fonts: Sequence[Path] | None = None,
    progress: Callable[[EpochResult], None] | None = None,
    glyphs_per_class: int = _GLYPHS_PER_CLASS,
) -> Path:
    """Draw glyphs, train glyphnet to read them, and write the weights of its last epoch with their card.

    The same fonts, seed and number of threads give the same bytes.

    Args:
        out: The folder for `glyphnet.safetensors`.
        epochs: The number of passes over the glyphs.
        seed: The seed of the glyphs, the first weights and the order of the glyphs.
        fonts: Font files to draw with in addition to Pillow's own; None takes those found on this machine.
        progress: Called with the result of each epoch.
        glyphs_per_class: The number of glyphs to draw of each of the 62 characters.

    Returns:
        The path of the weights.
    """
    faces = glyphs.typefaces(glyphs.find_fonts() if fonts is None else fonts)
    data = _draw(faces, seed, glyphs_per_class)
    recipe = Recipe(
        epochs=epochs, batch_size=256, learning_rate=4e-3, weight_decay=0.05, warmup_epochs=1.0
    )
    model = backbones.build(
        Model(backbone=GLYPHNET, weights="none"), classes=data.classes, seed=seed
    )
    last = _train(model, data, recipe, seed, progress)
    load_weights(Freezing(model, recipe), last.state())
    out.mkdir(parents=True, exist_ok=True)
    path = out / WEIGHTS_NAME
    described = make_card(
        model,
        data,
        recipe=recipe,
        seed=seed,
        scores=Scores(validation_accuracy=last.value),
        fonts={face.sha256: face.name for face in faces},
    )
    export(path, model, card=described)
    return path


def _draw(faces: Sequence[Typeface], seed: int, per_class: int) -> TaskData:
    random = np.random.default_rng(derive(seed, "glyphs"))
    labels = random.permutation(np.repeat(np.arange(len(CHARACTERS)), per_class))
    pictures = glyphs.draw(faces, labels, random)
    held_out = max(1, round(_VALIDATION * len(labels)))
    return TaskData(
        train=Split(pictures[held_out:], labels[held_out:]),
        validation=Split(pictures[:held_out], labels[:held_out]),
        classes=tuple(CHARACTERS),
        sha256=hashlib.sha256(pictures.tobytes() + labels.tobytes()).hexdigest(),
        counts={"train": len(labels) - held_out, "validation": held_out},
    )


def _train(
    model: backbones.Backbone,
    data: TaskData,
    recipe: Recipe,
    seed: int,
    progress: Callable[[EpochResult], None] | None,
) -> EpochResult:
    last: EpochResult | None = None
    request = TrainingRequest(model, data, recipe, seed=seed, device=torch.device("cpu"))
    for last in fit(request):
        if progress is not None:
            progress(last)
    if last is None:
        raise ValueError("a pretraining needs at least one epoch")
    return last
