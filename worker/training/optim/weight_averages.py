"""The weights that are measured and kept, where these are not the ones that are trained.

Between epochs the model holds what was measured; `resume` gives it the trained weights back for the next epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit
from worker.training.model.backbones import Backbone
from worker.training.model.freezing import Freezing
from worker.training.objective.evaluate import Scores

BATCH_SIZE = 256
STATISTICS_PICTURES = 2048
"""This many training pictures are enough to estimate the statistics of batch normalisation again."""

_LIVE, _MOVING, _SUM, _COUNT = "live/", "moving/", "sum/", "count"

Weights = dict[str, Tensor]


class Averages:
    """Averages over steps, over epochs, and between the pretrained and the trained weights.

    Each is made of what the one before it gives:

    - `ema_decay`: an exponential moving average over the steps (Polyak and Juditsky, 1992), statistics of batch
      normalisation included;
    - `swa_epochs`: the plain average over the last `swa_epochs` epochs (Izmailov et al., 2018,
      https://arxiv.org/abs/1803.05407);
    - `adaptation_grid`: pretrained + a (trained - pretrained) for several a, the best on the validation split
      (WiSE-FT, Wortsman et al., 2022, https://arxiv.org/abs/2109.01903). A head that is new to the task has no
      pretrained weights and stays as it was trained.

    After the last two, the statistics of batch normalisation are estimated again: those of an average of networks
    are not the average of theirs.

    Args:
        freezing: The model, which has its pretrained weights as yet, and the recipe, which says what is averaged.

    Attributes:
        micro_batches: Pictures that the device's memory takes at once when statistics are estimated.
    """

    def __init__(self, freezing: Freezing) -> None:
        self.micro_batches = MicroBatches(BATCH_SIZE, least=2)
        self._freezing = freezing
        self._recipe = freezing.recipe
        self._live: Weights = {}
        self._moving: Weights = {}
        self._sum: Weights = {}
        self._count = 0
        interpolates = bool(self._recipe.adaptation_grid)
        self._pretrained = _pretrained(freezing.model, self._own) if interpolates else {}

    @cached_property
    def _own(self) -> Weights:
        """Most recipes average nothing, and never ask."""
        return _moved(self._freezing)

    @property
    def nbytes(self) -> int:
        """Memory that the averages take, and their part of a checkpoint."""
        parts = (self._live, self._moving, self._sum)
        return sum(value.nbytes for part in parts for value in part.values())

    def after_step(self) -> None:
        """Take the weights that a step has just moved into the moving average."""
        decay = self._recipe.ema_decay
        if not decay:
            return
        if not self._moving:
            self._moving = _copy(self._own)
            return
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] - what torch's own optimizers call
            list(self._moving.values()), list(self._own.values()), 1 - decay
        )

    def show(
        self,
        epoch: int,
        *,
        estimate: Callable[[], None],
        measure: Callable[[], Scores],
        goodness: Callable[[Scores], float],
    ) -> tuple[Scores, float | None]:
        """Give the model the weights to be kept, and measure them, each point of the grid once.

        Args:
            epoch: The one that has just been trained.
            estimate: Estimates the statistics of the model's batch normalisation anew.
            measure: Measures the model as it is now.
            goodness: Turns a measurement into a number of which more is better.

        Returns:
            What the weights measured, and a of the best of the grid, if there is one.
        """
        if not self._averages(epoch):
            return measure(), None
        self._live = _copy(self._own)
        if self._moving:
            self._load(self._moving)
        if epoch >= self._first_of_last:
            self._add()
            self._load({name: value / self._count for name, value in self._sum.items()})
            estimate()
        return self._interpolate(estimate, measure, goodness)

    def resume(self) -> None:
        """Give the model the trained weights back."""
        if self._live:
            self._load(self._live)
            self._live = {}

    def tensors(self) -> Weights:
        """Return what the next epoch depends on beside the model: copies on the CPU."""
        named = {
            **{f"{_LIVE}{name}": value for name, value in self._live.items()},
            **{f"{_MOVING}{name}": value for name, value in self._moving.items()},
            **{f"{_SUM}{name}": value for name, value in self._sum.items()},
        }
        if self._count:
            named[_COUNT] = torch.tensor(self._count)
        return {name: value.detach().to("cpu", copy=True) for name, value in named.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._live, self._moving, self._sum = (
            {
                name: tensors[f"{prefix}{name}"].to(own.device, copy=True)
                for name, own in self._own.items()
                if f"{prefix}{name}" in tensors
            }
            for prefix in (_LIVE, _MOVING, _SUM)
        )
        self._count = int(tensors[_COUNT]) if _COUNT in tensors else 0

    @property
    def _first_of_last(self) -> int:
        recipe = self._recipe
        return max(0, recipe.epochs - recipe.swa_epochs) if recipe.swa_epochs else recipe.epochs

    def _averages(self, epoch: int) -> bool:
        recipe = self._recipe
        return bool(recipe.ema_decay or recipe.adaptation_grid) or epoch >= self._first_of_last

    def _add(self) -> None:
        self._sum = {
            name: value.double() + self._sum[name] if self._sum else value.double()
            for name, value in self._own.items()
        }
        self._count += 1

    def _interpolate(
        self,
        estimate: Callable[[], None],
        measure: Callable[[], Scores],
        goodness: Callable[[Scores], float],
    ) -> tuple[Scores, float | None]:
        points = self._recipe.adaptation_grid
        best = measure()
        if not points:
            return best, None
        trained = _copy(self._own)
        best_at, best_weights = 1.0, trained
        for point in range(points):
            at = point / points
            self._load(
                {
                    name: torch.lerp(value, trained[name], at)
                    for name, value in self._pretrained.items()
                }
            )
            estimate()
            found = measure()
            if goodness(found) > goodness(best):
                best, best_at, best_weights = found, at, _copy(self._own)
        self._load(best_weights)
        return best, best_at

    @torch.no_grad()
    def _load(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in weights.items():
            self._own[name].copy_(value)


def estimate_statistics(
    freezing: Freezing,
    train: PlacedSplit,
    forward: Callable[[Tensor], Tensor],
    *,
    epoch: int = 0,
    micro_batches: MicroBatches | None = None,
) -> None:
    """Estimate the statistics of the batch normalisation that training moves, as the mean over batches.

    Args:
        freezing: The model, which is left in evaluation mode, and the recipe.
        train: The split that it is trained on; a part of it is enough, always the same.
        forward: The part of the model that takes what `train` holds.
        epoch: The one that has just been trained.
        micro_batches: Pictures that the device's memory takes at once.
    """
    model, precision = freezing.model, freezing.recipe.precision
    layers = freezing.moving_statistics(epoch)
    kept = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.momentum = None  # torch's word for the plain mean over batches
        layer.train()

    def estimate(parts: Sequence[slice]) -> None:
        # A pass that ran out of memory has moved the first layers already.
        for layer in layers:
            layer.reset_running_stats()
        _pass(train, forward, precision, len(parts))

    if layers:
        count = min(len(train), STATISTICS_PICTURES)
        (micro_batches or MicroBatches(BATCH_SIZE, least=2)).run(count, estimate)
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
        layer.eval()


def _pass(
    train: PlacedSplit, forward: Callable[[Tensor], Tensor], precision: str, batches: int
) -> None:
    # Shuffled: a folder's pictures lie class by class, and a batch of one class varies less than all of them do.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    rows = order[:STATISTICS_PICTURES]
    with torch.no_grad(), train.autocast(precision):
        for batch in rows.tensor_split(batches):
            forward(train.take(batch)[0])


def _moved(freezing: Freezing) -> Weights:
    """The floating-point tensors that training moves, themselves: every later change of theirs is seen."""
    state = freezing.thawed_state()
    return {name: value.detach() for name, value in state.items() if value.is_floating_point()}


def _pretrained(model: Backbone, own: Mapping[str, Tensor]) -> Weights:
    """Copies of the pretrained weights of what has any: a head that is new to the task has none."""
    head = f"{model.head_name}."
    known = _copy({name: value for name, value in own.items() if not name.startswith(head)})
    for name, value in (model.own_head or {}).items():
        known[f"{head}{name}"] = value.to(own[f"{head}{name}"])
    return known


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: value.clone() for name, value in weights.items()}
