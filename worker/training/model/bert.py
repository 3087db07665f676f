"""The encoder of BERT and its family: word pieces in, one vector of features a text, a linear head.

Devlin et al. (2019), https://arxiv.org/abs/1810.04805; RoBERTa (Liu et al., 2019), DistilBERT (Sanh et al., 2019), MiniLM
(Wang et al., 2020) and the discriminator of ELECTRA (Clark et al., 2020) are the same network but for positions, token
types and the width of the embeddings.

A layer takes one tensor and gives one: the last feature of each token says whether it is one (1) or padding (0). So the
network can be cut after any layer, and what crosses the cut is all that the rest needs.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.training.model.architecture import Architecture
from worker.training.model.card import EncoderCard
from worker.training.model.inputs import InputLayer
from worker.training.model.text_network import Pooling, TextNetwork, mark, unmark

_INITIAL_STD = 0.02
"""The standard deviation of random weights, as in BERT's own code."""


class Embeddings(nn.Module):
    """From word pieces and token types to the first layer's inputs.

    The tables are lone parameters and no matrices between layers, so that muon leaves them to adamw.
    """

    types: nn.Parameter | None

    def __init__(self, shape: EncoderCard) -> None:
        super().__init__()
        width = shape.embedding_width
        self.pad_id = shape.pad_id
        self.first_position = shape.first_position
        self.words = nn.Parameter(torch.empty(shape.vocab_size, width))
        self.positions = nn.Parameter(
            torch.empty(shape.first_position + shape.positions, width)
        )
        types = (
            nn.Parameter(torch.empty(shape.token_types, width)) if shape.token_types else None
        )
        self.register_parameter("types", types)
        self.norm = nn.LayerNorm(width, eps=shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)
        is_factored = width != shape.width
        self.project = nn.Linear(width, shape.width) if is_factored else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """`(N, 2, L)`, word pieces and token types, to `(N, L, width + 1)`."""
        words, types = tokens.unbind(1)
        x = functional.embedding(words, self.words)
        if self.types is not None:
            x = x + functional.embedding(types, self.types)
        x = x + self.positions[self.first_position :][: words.shape[1]]
        x = self.project(self.dropout(self.norm(x)))
        return mark(x, (words != self.pad_id).unsqueeze(2).to(x.dtype))


class Layer(nn.Module):
    """Attention of each token to all that are no padding, then a feed-forward network; both beside a shortcut."""

    def __init__(self, shape: EncoderCard) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.attention_dropout = shape.attention_dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=shape.norm_eps)
        self.up = nn.Linear(width, shape.feed_forward)
        self.activation = _activation(shape.activation)
        self.down = nn.Linear(shape.feed_forward, width)
        self.norm = nn.LayerNorm(width, eps=shape.norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, marked: Tensor) -> Tensor:
        """`(N, L, width + 1)` to the same shape."""
        x, real = unmark(marked)
        x = self.attention_norm(x + self.dropout(self.output(self._attended(x, real))))
        x = self.norm(x + self.dropout(self.down(self.activation(self.up(x)))))
        return mark(x, real)

    def _attended(self, x: Tensor, real: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        # Of bool: a mask of 0 and 1 would be added to the scores.
        mask = (real > 0).transpose(1, 2).unsqueeze(1)
        p = self.attention_dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, mask, dropout_p=p)
        return found.transpose(1, 2).flatten(2)


class Encoder(TextNetwork):
    """The network; its inputs are those that a `TokenInput` makes."""

    def __init__(self, shape: EncoderCard, classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.pooling = Pooling()
        self.head = nn.Linear(shape.width, classes)
        draw(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(N, 2, L)` to logits `(N, classes)`."""
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.head(self.pooling(x)))

    def redraw(self, module: nn.Module) -> None:
        """Draw all weights in one of its modules anew, as they are before any training."""
        draw(module)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the last layer's vectors `(N, L, width)`; those of padding mean nothing."""
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return unmark(x)[0]


def architecture(
    shape: EncoderCard, classes: int, input_layer: InputLayer, tokenizer: str
) -> Architecture:
    """Build an encoder with random weights; its stages are the embeddings and each layer.

    Args:
        shape: Its shape.
        classes: The number of outputs of its head.
        input_layer: The layer before it.
        tokenizer: The tokenizer of its vocabulary, as JSON.
    """
    layers = [[f"layers.{number}"] for number in range(shape.layers)]
    # What all layers are pooled to is no longer one token's: with the last layer frozen, it is computed once.
    layers[-1].append("pooling")
    return Architecture(
        network=Encoder(shape, classes),
        head="head",
        stages=(("embeddings",), *map(tuple, layers)),
        input=input_layer,
        tokenizer=tokenizer,
    )


@torch.no_grad()
def draw(module: nn.Module) -> None:
    """Draw all weights in a module anew, as BERT's are before any training."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.normal_(std=_INITIAL_STD)
            part.bias.zero_()
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
        elif isinstance(part, Embeddings):
            for table in part.parameters(recurse=False):
                table.normal_(std=_INITIAL_STD)


def _activation(name: str) -> nn.Module:
    match name:
        case "gelu":
            return nn.GELU()
        case "gelu_tanh":
            return nn.GELU(approximate="tanh")
        case "relu":
            return nn.ReLU()
        case _:
            return nn.SiLU()
