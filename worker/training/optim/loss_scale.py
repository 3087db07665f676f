"""Dynamic loss scaling for float16, whose small gradients would vanish (Micikevicius et al., 2018, section 3.2)."""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn


class LossScale:
    """Torch's own, without its optimizers: a step whose gradients overflow is left out and the scale halved."""

    def __init__(self, device: torch.device, parameters: Iterable[nn.Parameter]) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self._parameters = list(parameters)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to go backward from."""
        return self._scaler.scale(loss)

    def step(self, move: Callable[[], None]) -> None:
        """Undo the scale in the gradients, and call `move` if all of them are finite."""
        # All that the scaler reads of an optimizer.
        optimizer = SimpleNamespace(param_groups=[{"params": self._parameters}], step=move)
        self._scaler.step(cast(Any, optimizer))
        self._scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Return the scale and the steps since it last changed."""
        state = self._scaler.state_dict()
        return {name: torch.tensor(state[name]) for name in ("scale", "_growth_tracker")}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        found = {name: value.item() for name, value in tensors.items()}
        self._scaler.load_state_dict(self._scaler.state_dict() | found)
