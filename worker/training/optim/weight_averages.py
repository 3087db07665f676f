"""Averages of weights: what is measured and kept where that is not what is trained.

Between epochs the model holds the averaged weights, which were measured. `resume` puts the trained weights back for
the next epoch.
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
"""Training pictures from which the statistics of batch normalisation are estimated again; more change little."""

_LIVE, _MOVING, _SUM, _COUNT = "live/", "moving/", "sum/", "count"

Weights = dict[str, Tensor]


class Averages:
    """Averages over steps, over epochs, and between the pretrained and the trained weights.

    A recipe may ask for several. Each one begins from the result of the one before it:

    - `ema_decay`: an exponential moving average over the steps, with the statistics of batch normalisation
      (averages of iterates: Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046);
    - `swa_epochs`: the plain average over the last epochs, this many of them (SWA, Izmailov et al., 2018,
      https://arxiv.org/abs/1803.05407);
    - `adaptation_grid`: pretrained + a (trained - pretrained) for several a, of which the best on the validation
      split is kept (WiSE-FT, Wortsman et al., 2022, https://arxiv.org/abs/2109.01903). A head that is new to the
      task has no pretrained weights and stays as it was trained.

    The last two estimate the statistics of batch normalisation again, because the statistics of an averaged network
    are not the average of the networks' statistics.

    Args:
        freezing: The pretrained model before any training, and the recipe, which says which averages are made.
        adaptation_weight: The `a` to take in place of the best one, from 0 to 1; None: the best one is looked for.

    Attributes:
        micro_batches: The number of pictures that the device takes at once when statistics are estimated.
    """

    def __init__(self, freezing: Freezing, adaptation_weight: float | None = None) -> None:
        self.micro_batches = MicroBatches(BATCH_SIZE, least=2)
        self._freezing = freezing
        self._recipe = freezing.recipe
        self._adaptation_weight = adaptation_weight
        self._live: Weights = {}
        self._moving: Weights = {}
        self._sum: Weights = {}
        self._count = 0
        interpolates = bool(self._recipe.adaptation_grid)
        self._pretrained = _pretrained(freezing.model, self._own) if interpolates else {}

    @cached_property
    def _own(self) -> Weights:
        """The tensors that training moves. Computed when it is first asked for: most recipes average nothing."""
        return _moved(self._freezing)

    @property
    def nbytes(self) -> int:
        """Bytes that the averages take, in memory and in a checkpoint."""
        parts = (self._live, self._moving, self._sum)
        return sum(value.nbytes for part in parts for value in part.values())

    def after_step(self) -> None:
        """Add the weights, which a step has just changed, to the moving average."""
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
        """Put the averaged weights into the model and measure them; with a grid, measure each point once.

        Args:
            epoch: The epoch that has just been trained, from 0.
            estimate: Estimates the statistics of the model's batch normalisation again.
            measure: Measures the model with its present weights.
            goodness: Turns scores into a number of which more is better.

        Returns:
            The scores of the weights that the model now has, and the `a` of the best point; None without a grid.
        """
        if not self._averages(epoch):
            return measure(), None
        added = self._sum, self._count
        self._live = _copy(self._own)
        try:
            return self._show(epoch, estimate, measure, goodness)
        except BaseException:
            # Whoever leaves during the validation comes back before it.
            self.resume()
            self._sum, self._count = added
            raise

    def resume(self) -> None:
        """Put the trained weights back into the model."""
        if self._live:
            self._load(self._live)
            self._live = {}

    def tensors(self) -> Weights:
        """Return copies on the CPU of all that the next epoch needs beside the model."""
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

    def _show(
        self,
        epoch: int,
        estimate: Callable[[], None],
        measure: Callable[[], Scores],
        goodness: Callable[[Scores], float],
    ) -> tuple[Scores, float | None]:
        if self._moving:
            self._load(self._moving)
        if epoch >= self._first_of_last:
            self._add()
            self._load({name: value / self._count for name, value in self._sum.items()})
            estimate()
        return self._interpolate(estimate, measure, goodness)

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
        points, given = self._recipe.adaptation_grid, self._adaptation_weight
        if not points:
            return measure(), None
        trained = _copy(self._own)
        if given is not None:
            self._mix(trained, given, estimate)
            return measure(), given
        best, best_at, best_weights = measure(), 1.0, trained
        for point in range(points):
            at = point / points
            self._mix(trained, at, estimate)
            found = measure()
            if goodness(found) > goodness(best):
                best, best_at, best_weights = found, at, _copy(self._own)
        self._load(best_weights)
        return best, best_at

    def _mix(self, trained: Weights, at: float, estimate: Callable[[], None]) -> None:
        """Put pretrained + at (trained - pretrained) into the model, which has the trained weights where `at` is 1."""
        if at == 1:
            return
        self._load(
            {
                name: torch.lerp(value, trained[name], at)
                for name, value in self._pretrained.items()
            }
        )
        estimate()

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
        freezing: The model whose statistics are replaced, which is left in evaluation mode, and the recipe.
        train: The training split, of which the same pictures are taken each time.
        forward: The part of the model that takes the inputs in `train`.
        epoch: The epoch that has just been trained, from 0.
        micro_batches: The number of pictures that the device takes at once.
    """
    model, precision = freezing.model, freezing.recipe.precision
    layers = freezing.moving_statistics(epoch)
    kept = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.momentum = None  # torch then takes the plain mean over batches
        layer.train()

    def estimate(parts: Sequence[slice]) -> None:
        # An earlier pass that ran out of memory has already changed the first layers.
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
    # Shuffled, because a folder lists its pictures class by class and a batch of one class varies too little.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    rows = order[:STATISTICS_PICTURES]
    with torch.no_grad(), train.autocast(precision):
        for batch in rows.tensor_split(batches):
            forward(train.take(batch)[0])


def _moved(freezing: Freezing) -> Weights:
    """Return the floating-point tensors that training moves: the tensors themselves, not copies."""
    state = freezing.thawed_state()
    return {name: value.detach() for name, value in state.items() if value.is_floating_point()}


def _pretrained(model: Backbone, own: Mapping[str, Tensor]) -> Weights:
    """Return copies of the pretrained weights; a head that is new to the task has none."""
    head = f"{model.head_name}."
    known = _copy({name: value for name, value in own.items() if not name.startswith(head)})
    for name, value in (model.own_head or {}).items():
        known[f"{head}{name}"] = value.to(own[f"{head}{name}"])
    return known


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: value.clone() for name, value in weights.items()}
