"""Optimizers from a recipe.

The updates are torch's own, called by their functional form: the classes around it import the compiler at their
first step, which costs every process 4 s and 160 MB.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import _muon  # pyright: ignore[reportPrivateUsage] - its functional form has no public name
from torch.optim.sgd import sgd

from trimtab.contract.recipe import Recipe
from worker.training.device.memory_format import as_matrix, in_memory_order
from worker.training.model.lora import LowRank
from worker.training.optim.loss_scale import LossScale
from worker.training.optim.param_groups import Group, Rule, Update

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_SCALE = "loss_scale"
_MOMENTS: Mapping[Update, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("mean", "variance", "steps"),
    "adamw": ("mean", "variance", "steps"),
    "muon": ("momentum",),
}


class Optimizer:
    """Updates the parameters that have a gradient, each group by its rule.

    - `sgd`: stochastic gradient descent with Nesterov momentum (Sutskever et al., 2013,
      https://proceedings.mlr.press/v28/sutskever13.html).
    - `adam`: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980.
    - `adamw`: Adam whose weight decay is not part of the gradient (Loshchilov and Hutter, 2019,
      https://arxiv.org/abs/1711.05101). The pull to the pretrained weights (L2-SP) is decoupled in the same way.
    - `muon`: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/, decoupled like AdamW. Its learning
      rate is adjusted to the shape of each matrix so that an update has the same root mean square as one of AdamW
      (Liu et al., 2025, https://arxiv.org/abs/2502.16982, section 2.2).

    SGD and Adam run as fused kernels, which read the weights of a group once for each step.

    The values of the parameters may be overwritten between steps, but their memory must stay the same.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        recipe: Recipe,
        *,
        low_rank: LowRank | None = None,
        scales_loss_on: torch.device | None = None,
    ) -> None:
        """Begin with moments of zero. L2-SP pulls to the values that the parameters have now.

        Args:
            groups: The parameters that are trained, with the rule of each group.
            recipe: The recipe that sets momentum and gradient clipping.
            low_rank: The LoRA layers whose factors are in the groups; None without LoRA.
            scales_loss_on: The device, if it trains in float16 and the loss must be scaled; None otherwise.
        """
        self._parts = [_Part(group, recipe.momentum) for group in groups]
        self._parameters = [p for group in groups for p in group.parameters.values()]
        self._clip_norm = recipe.clip_norm
        self._low_rank = low_rank
        self._loss_scale = (
            None if scales_loss_on is None else LossScale(scales_loss_on, self._parameters)
        )

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for parameter in self._parameters:
            parameter.grad = None
        if self._low_rank is not None:
            self._low_rank.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to the present ones, scaled as `step` expects them."""
        (loss if self._loss_scale is None else self._loss_scale.scaled(loss)).backward()

    def step(self, learning_rate: float) -> None:
        """Update every parameter that has a gradient."""
        if self._low_rank is not None:
            self._low_rank.take_gradients()
        if self._loss_scale is None:
            self._move(learning_rate)
        else:
            self._loss_scale.step(lambda: self._move(learning_rate))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the moments take."""
        return sum(value.nbytes for value in self._moments().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the moments on the CPU, named `<parameter>:<moment>`."""
        moments = {name: value.to("cpu", copy=True) for name, value in self._moments().items()}
        if self._loss_scale is None:
            return moments
        scale = self._loss_scale.tensors()
        return moments | {f"{_SCALE}:{name}": value for name, value in scale.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned.

        Raises:
            ValueError: The tensors belong to other parameters or to another optimizer.
        """
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise ValueError("it trains other parameters")
        if any(own[name].shape != value.shape for name, value in tensors.items()):
            raise ValueError("its parameters have other shapes")
        moments = self._moments()
        for name, moment in moments.items():
            moment.copy_(tensors[name])
        if self._loss_scale is not None:
            scale = {name for name in tensors if name not in moments}
            self._loss_scale.restore(
                {name.removeprefix(f"{_SCALE}:"): tensors[name] for name in scale}
            )

    def _moments(self) -> dict[str, Tensor]:
        return {name: value for part in self._parts for name, value in part.moments.items()}

    @torch.no_grad()
    def _move(self, learning_rate: float) -> None:
        if self._clip_norm:
            clip_grad_norm_(self._parameters, self._clip_norm)
        for part in self._parts:
            part.move(learning_rate)
        if self._low_rank is not None:
            self._low_rank.merge()


_Columns = Mapping[str, Sequence[Tensor]]
"""The tensors of a group by name: `value`, `start` and each moment; each is a list in the order of the parameters."""


class _Part:
    """One group of parameters with their moments, all viewed in the order in which they lie in memory.

    Attributes:
        moments: Each moment by the name `<parameter>:<moment>`, in the shape of its parameter; `steps` is a scalar.
    """

    def __init__(self, group: Group, momentum: float) -> None:
        self._rule, self._momentum = group.rule, momentum
        self._parameters = list(group.parameters.values())
        self._view = as_matrix if group.rule.update == "muon" else in_memory_order
        values = [self._view(p.detach(), p) for p in self._parameters]
        self._columns = {"value": values}
        if group.rule.l2_sp:
            self._columns["start"] = [value.clone() for value in values]
        self.moments: dict[str, Tensor] = {}
        for moment in _MOMENTS[group.rule.update]:
            if momentum or moment != "momentum":
                self._add_moment(moment, group)

    def _add_moment(self, moment: str, group: Group) -> None:
        column = self._columns[moment] = []
        for name, p in group.parameters.items():
            counts = moment == "steps"
            fresh = torch.zeros((), device=p.device) if counts else torch.zeros_like(p)
            self.moments[f"{name}:{moment}"] = fresh
            column.append(fresh if counts else self._view(fresh, p))

    def move(self, learning_rate: float) -> None:
        """Update the parameters of the group that have a gradient."""
        gradients = [self._view(p.grad, p) for p in self._parameters if p.grad is not None]
        if not gradients:
            return
        columns: _Columns = self._columns
        if len(gradients) < len(self._parameters):
            live = [row for row, p in enumerate(self._parameters) if p.grad is not None]
            columns = {name: [own[row] for row in live] for name, own in columns.items()}
        rate = learning_rate * self._rule.rate
        if self._rule.l2_sp:
            _pull(columns, gradients, self._rule, rate)
        match self._rule.update:
            case "sgd":
                _sgd(columns, gradients, self._rule, rate, self._momentum)
            case "adam" | "adamw":
                _adam(columns, gradients, self._rule, rate)
            case "muon":
                _move_by_muon(columns, gradients, self._rule, rate, self._momentum)


def _pull(columns: _Columns, gradients: list[Tensor], rule: Rule, rate: float) -> None:
    """Pull the values to where they began: the gradient of (l2_sp / 2) |w - w0|^2, decoupled where weight decay is."""
    rows = zip(columns["value"], columns["start"], gradients, strict=True)
    for value, start, gradient in rows:
        if rule.update in ("adamw", "muon"):
            value.lerp_(start, rate * rule.l2_sp)
        else:
            gradient.add_(value - start, alpha=rule.l2_sp)


def _sgd(
    columns: _Columns, gradients: list[Tensor], rule: Rule, rate: float, momentum: float
) -> None:
    sgd(
        list(columns["value"]),
        gradients,
        list(columns.get("momentum", [None] * len(gradients))),
        fused=True,
        weight_decay=rule.weight_decay,
        momentum=momentum,
        lr=rate,
        dampening=0.0,
        nesterov=momentum > 0,
        maximize=False,
    )


def _adam(columns: _Columns, gradients: list[Tensor], rule: Rule, rate: float) -> None:
    # torch's `adam` first sorts the tensors by device, which takes longer than the update of a head itself.
    move = torch._fused_adamw_ if rule.update == "adamw" else torch._fused_adam_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    torch._foreach_add_(list(columns["steps"]), 1)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    move(
        list(columns["value"]),
        gradients,
        list(columns["mean"]),
        list(columns["variance"]),
        [],
        list(columns["steps"]),
        lr=rate,
        beta1=_BETAS[0],
        beta2=_BETAS[1],
        weight_decay=rule.weight_decay,
        eps=_EPSILON,
        amsgrad=False,
        maximize=False,
    )


def _move_by_muon(
    columns: _Columns, gradients: list[Tensor], rule: Rule, rate: float, momentum: float
) -> None:
    _muon.muon(
        list(columns["value"]),
        gradients,
        list(columns.get("momentum", [torch.zeros_like(each) for each in gradients])),
        lr=rate,
        weight_decay=rule.weight_decay,
        momentum=momentum,
        nesterov=momentum > 0,
        ns_coefficients=(_muon.DEFAULT_A, _muon.DEFAULT_B, _muon.DEFAULT_C),
        ns_steps=_muon.DEFAULT_NS_STEPS,
        eps=_muon.EPS,
        adjust_lr_fn="match_rms_adamw",
        has_complex=False,
    )
