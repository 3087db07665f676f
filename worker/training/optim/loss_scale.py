"""Dynamic loss scaling for float16, in which small gradients would become zero.

Source: Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740, section 3.2.
"""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn


class LossScale:
    """Scales the loss before the backward pass by torch's `GradScaler`, for an optimizer that is not torch's.

    A step whose gradients overflow is skipped, and the scale is halved.
    """

    def __init__(self, device: torch.device, parameters: Iterable[nn.Parameter]) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self._parameters = list(parameters)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss that `backward` is called on."""
        return self._scaler.scale(loss)

    def step(self, move: Callable[[], None]) -> None:
        """Divide the gradients by the scale, and call `move` if all of them are finite."""
        # GradScaler asks for an optimizer, but reads these two attributes only.
        optimizer = SimpleNamespace(param_groups=[{"params": self._parameters}], step=move)
        self._scaler.step(cast(Any, optimizer))
        self._scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Return the scale and the number of steps since it last changed."""
        state = self._scaler.state_dict()
        return {name: torch.tensor(state[name]) for name in ("scale", "_growth_tracker")}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        found = {name: value.item() for name, value in tensors.items()}
        self._scaler.load_state_dict(self._scaler.state_dict() | found)
