"""An encoder of transformers cut behind one of its layers: what its frozen layers make of a text is computed once.

Which masks and positions a layer gets is known to the library's own code alone, so that both halves run that code. The
first leaves it where the last frozen layer has answered. In the second, frozen layers answer with what was kept,
whatever they are asked, and the embeddings embed words that nobody reads.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from worker.training.errors import is_out_of_memory
from worker.training.model.halves import Halves
from worker.training.model.hf_network import LibraryEncoder, layers_of
from worker.training.model.text_network import mark, unmark


def cut(network: LibraryEncoder, frozen_stages: int, taken: Tensor) -> Halves | None:
    """Cut an encoder behind its frozen layers; None where its code does not allow it, or nothing is saved by it.

    That both halves together are the network remains to be seen.

    Args:
        network: The encoder, in the mode of a training whose frozen modules are in evaluation mode.
        frozen_stages: The number of stages that are frozen, of which the embeddings are the first; a layer is trained.
        taken: An example of what the network takes, `(N, 2, L)`.
    """
    _, layers = layers_of(network.tokens.encoder)
    # The second half embeds words too: to keep what frozen embeddings give would save nothing.
    if frozen_stages < 2:
        return None
    frozen = list(layers)[: frozen_stages - 1]
    first = _First(network, frozen[-1])
    try:
        with torch.no_grad(), torch.random.fork_rng(_gpus(taken)):
            before = _generators(taken)
            kept = first(taken)
            # What is drawn on the way, such as which layers are left out, would be drawn once for all epochs.
            if not all(map(torch.equal, before, _generators(taken))):
                return None
            second = _Second(network, frozen, first.returns)
            second(kept)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None
    return Halves(first, second, marks_padding=True)


class _Answered(Exception):
    """Leaves the library's code with what a layer returned."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs


class _First:
    """From what a `TokenInput` makes, `(N, 2, L)`, to the last frozen layer's vectors, `(N, L, width + 1)`.

    Attributes:
        returns: The number of things that the layer has returned, the vectors being the first; 0 for the vectors alone.
    """

    def __init__(self, network: LibraryEncoder, layer: nn.Module) -> None:
        self.returns = 0
        self._network = network
        self._layer = layer

    def __call__(self, tokens: Tensor) -> Tensor:
        outputs = self._outputs(tokens)
        real = (tokens[:, 0] != self._network.tokens.pad_id).unsqueeze(2)
        if isinstance(outputs, Tensor):
            return mark(outputs, real)
        # What else it returns, such as the weights of its attention, is not kept. Where later layers need it, both
        # halves are not the network, which is seen.
        self.returns = len(outputs)
        return mark(cast(Tensor, outputs[0]), real)

    def _outputs(self, tokens: Tensor) -> Any:
        def leave(_: nn.Module, __: object, outputs: Any) -> None:
            raise _Answered(outputs)

        hook = self._layer.register_forward_hook(leave)
        try:
            self._network.tokens(tokens)
        except _Answered as answered:
            return answered.outputs
        finally:
            hook.remove()
        raise LookupError("the layer was not called")


class _Second:
    """From a frozen layer's vectors, `(N, L, width + 1)`, to logits `(N, classes)`."""

    def __init__(
        self, network: LibraryEncoder, frozen: Sequence[nn.Module], returns: int
    ) -> None:
        self._network = network
        self._frozen = frozen
        self._returns = returns
        # Any word but padding: the code may take positions and masks from it.
        self._word = 0 if network.tokens.pad_id else 1

    def __call__(self, marked: Tensor) -> Tensor:
        vectors, real = unmark(marked)
        words = torch.where(real[..., 0] > 0, self._word, self._network.tokens.pad_id)
        tokens = torch.stack((words, torch.zeros_like(words)), dim=1)
        # As it lies in memory where the layer has computed it: kernels round otherwise in another layout.
        vectors = vectors.contiguous()
        others = [None] * (self._returns - 1)
        with _answering(self._frozen, (vectors, *others) if self._returns else vectors):
            return cast(Tensor, self._network(tokens))


@contextmanager
def _answering(layers: Sequence[nn.Module], outputs: Any) -> Generator[None]:
    """Let layers return these outputs."""
    # On the object, before its class's own: a module in place of the layer would lack what the code asks the layer for.
    for layer in layers:
        layer.forward = lambda *_, **__: outputs
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _generators(tensor: Tensor) -> list[Tensor]:
    """Return the states of what random numbers are drawn from where a tensor is computed with."""
    cpu = torch.get_rng_state()
    return [cpu, *(torch.cuda.get_rng_state(gpu) for gpu in _gpus(tensor))]


def _gpus(tensor: Tensor) -> list[torch.device]:
    return [tensor.device] if tensor.device.type == "cuda" else []
