"""Optimizers from a recipe.

The updates are torch's own, called by their functional form: the classes around it import the compiler at their
first step, which costs every process 4 s and 160 MB.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trimtab.contract.recipe import Recipe

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Optimizer:
    """Moves what is not frozen; biases and normalisation layers do not decay.

    SGD takes Nesterov's momentum (Sutskever et al., 2013), AdamW decouples the decay (Loshchilov and Hutter,
    2019, https://arxiv.org/abs/1711.05101). All are the fused kernels: one pass over the weights for each step.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        self._moments = {
            name: self._fresh_moments(parameter) for name, parameter in self._parameters.items()
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""
        with_gradient = [name for name, p in self._parameters.items() if p.grad is not None]
        decayed = [name for name in with_gradient if self._parameters[name].dim() > 1]
        spared = [name for name in with_gradient if self._parameters[name].dim() <= 1]
        self._update(decayed, learning_rate, self._recipe.weight_decay)
        self._update(spared, learning_rate, 0.0)

    @property
    def nbytes(self) -> int:
        """Memory that the moments take."""
        return sum(value.nbytes for own in self._moments.values() for value in own.values())

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the moments on the CPU, named `<parameter>:<moment>`."""
        return {
            f"{name}:{moment}": value.cpu().clone()
            for name, moments in self._moments.items()
            for moment, value in moments.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned.

        Raises:
            ValueError: They are of other parameters or of another optimizer.
        """
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise ValueError("it trains other parameters")
        if any(own[name].shape != value.shape for name, value in tensors.items()):
            raise ValueError("its parameters have other shapes")
        for full_name, value in tensors.items():
            name, moment = full_name.rsplit(":", 1)
            self._moments[name][moment].copy_(value)

    def _fresh_moments(self, parameter: Tensor) -> dict[str, Tensor]:
        if self._recipe.optimizer == "sgd":
            return {"momentum": torch.zeros_like(parameter)} if self._recipe.momentum else {}
        steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {
            "mean": torch.zeros_like(parameter),
            "variance": torch.zeros_like(parameter),
            "steps": steps,
        }

    def _update(self, names: list[str], learning_rate: float, weight_decay: float) -> None:
        own = [self._parameters[name] for name in names]
        gradients = [_in_memory_order(p.grad, p) for p in own if p.grad is not None]
        moments = [
            {
                moment: _in_memory_order(value, p)
                for moment, value in self._moments[name].items()
            }
            for name, p in zip(names, own, strict=True)
        ]
        parameters = [_in_memory_order(p, p) for p in own]
        if self._recipe.optimizer == "sgd":
            sgd(
                parameters,
                gradients,
                [each.get("momentum") for each in moments],
                fused=True,
                weight_decay=weight_decay,
                momentum=self._recipe.momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self._recipe.momentum > 0,
                maximize=False,
            )
            return
        adam(
            parameters,
            gradients,
            [each["mean"] for each in moments],
            [each["variance"] for each in moments],
            [],
            [each["steps"] for each in moments],
            fused=True,
            decoupled_weight_decay=self._recipe.optimizer == "adamw",
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=learning_rate,
            weight_decay=weight_decay,
            eps=_EPSILON,
            maximize=False,
        )


def _in_memory_order(tensor: Tensor, parameter: Tensor) -> Tensor:
    """View what belongs to a channels-last parameter as contiguous: what is not, the fused kernels copy first."""
    if tensor.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor
