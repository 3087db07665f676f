"""Models for texts, made of a folder as it is published: its network, its tokenizer, and the layer between both."""

import hashlib
from pathlib import Path

from trimtab.contract.backbones import HF
from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model
from worker.data.errors import TokenizerUnusable
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import TextTokenizer, open_tokenizer, sha256_of
from worker.training.errors import TextModelUnfit, TooManyTokens
from worker.training.model import bert, hf_models, published_text
from worker.training.model.architecture import Architecture
from worker.training.model.card import EncoderCard, LibraryEncoderCard, NetworkCard, TokenCard
from worker.training.model.hf_network import LibraryEncoder
from worker.training.model.inputs import InputLayer
from worker.training.model.published_weights import WeightsReport
from worker.training.model.text_network import TextNetwork
from worker.training.model.token_input import TokenInput

MOST_TOKENS = 256
"""Word pieces of a text that are read where a recipe does not say how many."""


def architecture(model: Model, folder: Path, classes: int) -> Architecture:
    """Build the network of a folder with random weights, and the layer before it.

    Args:
        model: Its backbone, and which of its layers are kept.
        folder: The folder.
        classes: The number of outputs of the head.

    Raises:
        WeightsError, DataError: The folder is missing, or its parts are illegible or do not belong together.
        LibraryMissing: It needs transformers, which is not installed.
    """
    shape = of_model(folder, model)
    if isinstance(shape, LibraryEncoderCard):
        _check_tokenizer(folder)
    tokenizer = open_tokenizer(folder)
    layer = TokenInput(tokens_of(folder, shape, tokenizer))
    if isinstance(shape, EncoderCard):
        return bert.architecture(shape, classes, layer, tokenizer.json)
    shape = shape.model_copy(update={"pad_id": tokenizer.pad_id})
    return hf_models.of_folder(folder, shape, classes, layer, tokenizer.json)


def of_shape(
    shape: NetworkCard, classes: int, input_layer: InputLayer, tokenizer: str
) -> Architecture:
    """Build a network with random weights.

    Args:
        shape: Its shape.
        classes: The number of outputs of the head.
        input_layer: The layer before it.
        tokenizer: The tokenizer of its vocabulary, as JSON.

    Raises:
        LibraryMissing: It needs transformers, which is not installed.
    """
    if isinstance(shape, EncoderCard):
        return bert.architecture(shape, classes, input_layer, tokenizer)
    return hf_models.architecture(shape, classes, input_layer, tokenizer)


def load_into(network: TextNetwork, folder: Path, model: Model) -> WeightsReport:
    """Copy a folder's weights into a network, all but the head's.

    Args:
        network: The network, of the shape that `of_model` returns.
        folder: The folder.
        model: Says which of its layers are kept.

    Raises:
        WeightsError: Its weights are illegible or another network's.
    """
    if isinstance(network, LibraryEncoder):
        return hf_models.load_into(network, folder, model)
    return published_text.load_into(network, folder, model)


def token_spec(model: Model, folder: Path, recipe: Recipe) -> TokenSpec:
    """Return what a task's texts are to be stored as, so that the network of a folder takes them.

    Raises:
        WeightsError, DataError: The folder is missing, or has no legible configuration or tokenizer.
        TooManyTokens: The recipe reads more of a text than the network has positions for.
        LibraryMissing: It needs transformers, which is not installed.
    """
    positions = _read_shape(folder, model).positions
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


def of_model(folder: Path, model: Model) -> NetworkCard:
    """Return the shape of the network that a study begins with: a folder's, or that of some of its layers.

    Raises:
        TextModelMissing, TextModelUnreadable: The folder is missing, or has no legible configuration.
        TextModelUnfit: Its network is not known, or has fewer layers than `model` keeps.
        LibraryMissing: It needs transformers, which is not installed.
    """
    if model.backbone == HF:
        return hf_models.of_some_layers(folder, model)
    shape = published_text.read_shape(folder)
    if model.layers is None:
        return shape
    published_text.check_layers(folder, shape.layers, model)
    return shape.model_copy(update={"layers": model.layers})


def _read_shape(folder: Path, model: Model) -> NetworkCard:
    reader = hf_models if model.backbone == HF else published_text
    return reader.read_shape(folder)


def _check_tokenizer(folder: Path) -> None:
    """Refuse a vocabulary alone: how it is read differs from model to model, and tokenizer.json says it whole."""
    if not (folder / "tokenizer.json").is_file():
        raise TokenizerUnusable(
            folder,
            "has no tokenizer.json, which `backbone: hf` needs; where transformers is, AutoTokenizer.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER) writes one",
        )


def tokens_of(folder: Path, shape: NetworkCard, tokenizer: TextTokenizer) -> TokenCard:
    """Describe the layer between a folder's tokenizer and its network.

    Raises:
        TextModelUnfit: The tokenizer's vocabulary is larger than the network's table, or its padding is another.
    """
    if tokenizer.vocab_size > shape.vocab_size:
        reason = (
            f"its tokenizer has {tokenizer.vocab_size} word pieces, and its network knows {shape.vocab_size}: "
            "they are of two models"
        )
        raise TextModelUnfit(folder, reason)
    if shape.pad_id not in (None, tokenizer.pad_id):
        reason = (
            f"its tokenizer pads with word piece {tokenizer.pad_id}, and its network with {shape.pad_id}: "
            "they are of two models, or `pad_token_id` of config.json is wrong"
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
