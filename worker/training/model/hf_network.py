"""An encoder of transformers as a network of ours: stages, and what each of its texts depends on.

What the library's code computes is not read but seen: which parameters the first layer's outputs depend on, whether a
token sees those behind it, and whether padding is left out. So no list of its hundreds of models is kept here.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from worker.training.model import bert
from worker.training.model.architecture import outermost
from worker.training.model.card import LibraryEncoderCard
from worker.training.model.text_network import Pooling, TextNetwork, mark, unmark

_WITHIN = "tokens.encoder."
"""The beginning of the names of the library's own tensors."""
_WORDS = 6
"""Word pieces of the text that an encoder is tried with."""
_NOISE = 1e-6
"""Differences below this share of the largest value are those of rounding."""
_SAME = 1e-4
"""The share of the largest value that padding may change: sums of other lengths are rounded otherwise."""


class TokenVectors(nn.Module):
    """The library's encoder, called as a whole: its code asks for masks and positions that its layers do not tell."""

    def __init__(self, encoder: nn.Module, shape: LibraryEncoderCard) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad_id = shape.pad_id or 0
        self._takes_types = shape.token_types > 1

    def forward(self, tokens: Tensor) -> Tensor:
        """`(N, 2, L)`, word pieces and token types, to `(N, L, width + 1)`."""
        words, types = tokens.unbind(1)
        real = words != self.pad_id
        given = {"input_ids": words, "attention_mask": real.to(torch.int64)}
        if self._takes_types:
            given["token_type_ids"] = types
        return mark(cast(Tensor, self.encoder(**given)[0]), real.unsqueeze(2))


class LibraryEncoder(TextNetwork):
    """The network; its inputs are those that a `TokenInput` makes.

    Attributes:
        unused: Names of parameters that nothing depends on.
        stages: The stages, from the embeddings on (`Architecture`).
    """

    def __init__(self, shape: LibraryEncoderCard, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = TokenVectors(encoder, shape)
        self.pooling = Pooling()
        self.head = nn.Linear(shape.width, classes)
        bert.draw(self.head)
        stage_of = _stage_of(self)
        self.unused = frozenset(
            name for name, _ in self.tokens.named_parameters("tokens") if name not in stage_of
        )
        # What nothing depends on gets no gradient; it belongs to some stage nevertheless.
        last = shape.layers
        stage_of |= dict.fromkeys(self.unused, last)
        found = [tuple(outermost(self, "", stage_of, stage)) for stage in range(last + 1)]
        # What all layers are pooled to is no longer one token's: with the last layer frozen, it is computed once.
        self.stages = (*found[:-1], (*found[-1], "pooling"))

    def forward(self, tokens: Tensor) -> Tensor:
        """`(N, 2, L)` to logits `(N, classes)`."""
        return cast(Tensor, self.head(self.pooling(self.tokens(tokens))))

    def hidden(self, tokens: Tensor) -> Tensor:
        """Return the last layer's vectors `(N, L, width)`; those of padding mean nothing."""
        return unmark(self.tokens(tokens))[0]

    @torch.no_grad()
    def redraw(self, module: nn.Module) -> None:
        """Draw all weights in one of its modules anew, as the library draws them before any training."""
        for part in module.modules():
            cast(Any, self.tokens.encoder)._init_weights(part)


def layers_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the layers of an encoder and their name: the list that most of its parameters are in.

    Raises:
        LookupError: It has no list of layers.
    """
    lists = [
        (name, module)
        for name, module in _modules(encoder)
        if isinstance(module, nn.ModuleList)
    ]
    # Of a list and those within it, the outer one is met first.
    found = max(lists, key=lambda one: _size(one[1]), default=None)
    if found is None or not _size(found[1]):
        raise LookupError("it has no list of layers")
    return found


@torch.no_grad()
def fault_of(network: LibraryEncoder) -> str | None:
    """Return the reason why an encoder's vectors would mislead, in words; None if they do not.

    A batch is padded to its longest text, and `cls` is the vector of the first token: padding must change nothing, and a
    token must see those behind it.
    """
    network.eval()
    text = _example(network)
    plain = network.hidden(text)
    changed = text.clone()
    changed[:, 0, 1] = changed[:, 0, 2]
    if _change(plain[:, :1], network.hidden(changed)[:, :1]) < _NOISE:
        return (
            "its tokens do not see those behind them: it is a decoder, and an encoder is needed"
        )
    behind = torch.zeros_like(text)
    behind[:, 0] = network.tokens.pad_id
    with _visible_padding(network):
        padded = network.hidden(
            torch.cat((text, behind), dim=2)[..., : network.shape.positions]
        )
    if _change(plain, padded[:, : plain.shape[1]]) > _SAME:
        return "what it makes of a text changes with the padding behind it, which other texts of a batch bring"
    return None


@contextmanager
def _visible_padding(network: LibraryEncoder) -> Generator[None]:
    """Let padding be embedded as what is not zero: random weights have zeros there, and published ones need not."""
    table = cast(Tensor, cast(Any, network.tokens.encoder).get_input_embeddings().weight)
    own = table[network.tokens.pad_id]
    before = own.clone()
    own.fill_(1)
    try:
        yield
    finally:
        own.copy_(before)


def _change(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def _stage_of(network: LibraryEncoder) -> dict[str, int]:
    """Return the stage of each parameter of the encoder, by its name: 0 for the embeddings, then one for each layer.

    A parameter that is in no layer, such as those of relative positions, belongs to the first stage whose outputs depend
    on it.
    """
    name, layers = layers_of(network.tokens.encoder)
    inside = f"{_WITHIN}{name}."
    own = dict(network.tokens.named_parameters("tokens"))
    found = {
        parameter: int(parameter.removeprefix(inside).partition(".")[0]) + 1
        for parameter in own
        if parameter.startswith(inside)
    }
    loose = {parameter: own[parameter] for parameter in own if parameter not in found}
    for stage, outputs in enumerate(_outputs(network, layers)):
        reached = _reached(outputs, loose)
        # The embeddings are what the first layer's outputs depend on beside its own.
        found |= dict.fromkeys(reached, min(stage and stage + 1, len(layers)))
        loose = {name: one for name, one in loose.items() if name not in reached}
    return found


def _outputs(network: LibraryEncoder, layers: nn.ModuleList) -> Sequence[Tensor]:
    """Return the outputs of each layer, when it is first called, and then those of the network."""
    seen: dict[int, Tensor] = {}

    def keep(number: int) -> Any:
        def hook(_: nn.Module, __: object, outputs: Any) -> None:
            seen.setdefault(number, outputs if isinstance(outputs, Tensor) else outputs[0])

        return hook

    hooks = [layer.register_forward_hook(keep(place)) for place, layer in enumerate(layers)]
    try:
        with torch.enable_grad():
            whole = network.eval().hidden(_example(network))
    finally:
        for one in hooks:
            one.remove()
    if len(seen) < len(layers):
        raise LookupError("its layers are not called one after the other")
    return [*(seen[place] for place in range(len(layers))), whole]


def _reached(outputs: Tensor, parameters: Mapping[str, nn.Parameter]) -> list[str]:
    if not parameters:
        return []
    wanted = list(parameters.values())
    # Typed as if none were None, which is what says that nothing depends on a parameter.
    gradients = cast(
        tuple[Tensor | None, ...],
        torch.autograd.grad(outputs.sum(), wanted, allow_unused=True, retain_graph=True),
    )
    return [name for name, one in zip(parameters, gradients, strict=True) if one is not None]


def _example(network: LibraryEncoder) -> Tensor:
    """Return one text of different word pieces, `(1, 2, L)`."""
    count = min(_WORDS, network.shape.positions)
    words = [number for number in range(count + 1) if number != network.tokens.pad_id][:count]
    ids = torch.tensor([words]) % network.shape.vocab_size
    return torch.stack((ids, torch.zeros_like(ids)), dim=1)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast(Iterator[tuple[str, nn.Module]], module.named_modules())
