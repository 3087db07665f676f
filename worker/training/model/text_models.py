"""Models for texts, made of a folder as it is published: its network, its tokenizer, and the layer between both."""

import hashlib
from pathlib import Path

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import TextTokenizer, open_tokenizer, sha256_of
from worker.training.errors import TextModelUnfit, TooManyTokens
from worker.training.model import bert, published_text
from worker.training.model.architecture import Architecture
from worker.training.model.card import EncoderCard, TokenCard
from worker.training.model.token_input import TokenInput

MOST_TOKENS = 256
"""Word pieces of a text that are read where a recipe does not say how many."""


def architecture(model: Model, folder: Path, classes: int) -> Architecture:
    """Build the network of a folder with random weights, and the layer before it.

    Args:
        model: Says which of its layers are kept.
        folder: The folder.
        classes: The number of outputs of the head.

    Raises:
        WeightsError, DataError: The folder is missing, or its parts are illegible or do not belong together.
    """
    shape = of_model(folder, model)
    tokenizer = open_tokenizer(folder)
    tokens = tokens_of(folder, shape, tokenizer)
    return bert.architecture(shape, classes, TokenInput(tokens), tokenizer.json)


def token_spec(folder: Path, recipe: Recipe) -> TokenSpec:
    """Return what a task's texts are to be stored as, so that the network of a folder takes them.

    Raises:
        WeightsError, DataError: The folder is missing, or has no legible configuration or tokenizer.
        TooManyTokens: The recipe reads more of a text than the network has positions for.
    """
    positions = published_text.read_shape(folder).positions
    if recipe.max_tokens is not None and recipe.max_tokens > positions:
        raise TooManyTokens(folder, recipe.max_tokens, positions)
    return TokenSpec(folder, sha256_of(folder), length_of(recipe, positions))


def length_of(recipe: Recipe, positions: int) -> int:
    """Return the most word pieces of a text that are read, special ones included.

    Args:
        recipe: May say so itself.
        positions: The most word pieces that the network takes.
    """
    return recipe.max_tokens or min(MOST_TOKENS, positions)


def of_model(folder: Path, model: Model) -> EncoderCard:
    """Return the shape of the network that a study begins with: a folder's, or that of some of its layers.

    Raises:
        TextModelMissing, TextModelUnreadable: The folder is missing, or has no legible configuration.
        TextModelUnfit: Its network is not known, or has fewer layers than `model` keeps.
    """
    shape = published_text.read_shape(folder)
    if model.layers is None:
        return shape
    if model.layers > shape.layers:
        reason = f"it has {shape.layers} layers, and `model.layers` asks for {model.layers}"
        raise TextModelUnfit(folder, reason)
    return shape.model_copy(update={"layers": model.layers})


def tokens_of(folder: Path, shape: EncoderCard, tokenizer: TextTokenizer) -> TokenCard:
    """Describe the layer between a folder's tokenizer and its network.

    Raises:
        TextModelUnfit: The tokenizer's vocabulary is larger than the network's table.
    """
    if tokenizer.vocab_size > shape.vocab_size:
        reason = (
            f"its tokenizer has {tokenizer.vocab_size} word pieces, and its network knows {shape.vocab_size}: "
            "they are of two models"
        )
        raise TextModelUnfit(folder, reason)
    return TokenCard(
        kind="tokens",
        sha256=hashlib.sha256(tokenizer.json.encode()).hexdigest(),
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        unk_id=tokenizer.unk_id,
        token_types=shape.token_types,
        positions=shape.positions,
    )
