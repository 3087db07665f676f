"""Tasks of the replay: what each configuration would have come to, epoch by epoch, and what each epoch costs.

Two kinds. `LCBench` has the learning curves of real networks on tabular data, as a surrogate that was fitted to 2,000
trainings a task tells them. A grid has real final values of every cell, several seeds each, with curves that are made up.
The hyperparameters have names that our contract knows, each with the range that it has in its table; nothing reads them as
what they are called.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.replay_venv import Desk
from tests.support import lab
from trimtab.contract.metrics import direction_of
from trimtab.contract.search_space import Choices, Dimension, FloatRange, IntRange, Scalar

Point = Mapping[str, Scalar]
TASKS = ("3945", "7593", "189906", "167185")
"""The tasks of OpenML that constants may be chosen on; all others are kept for judging."""
GRIDS = ("hpobench__vehicle", "nasbench201__cifar100")
LOSSES = ("loss", "diverging")
VARIANTS = ("seconds", "noise", "scrambled", *LOSSES)
NOISE = 0.007
MANY = 100_000
"""The size of a validation split whose noise can be neglected."""


@dataclass(frozen=True)
class Curve:
    """What a training of one configuration comes to.

    Attributes:
        told: The objective value after each epoch, as a worker measures it; the last one is NaN where the training diverges.
        scores: The true value of the model after each epoch, in points; more is better.
        epoch_cost: The time of an epoch, in those of the task's mean epoch.
    """

    told: Sequence[float]
    scores: Sequence[float]
    epoch_cost: float = 1.0


@dataclass(frozen=True)
class Task:
    """A task to search on.

    Attributes:
        name: The name in the tables.
        space: The hyperparameters.
        epochs: The epochs of a full run.
        curve: A function that returns the curve of a configuration, from the seed of its trial.
        objective: The metric that is told.
        validation: The size of the validation split, by which a sampler may judge the noise.
    """

    name: str
    space: Mapping[str, Dimension]
    epochs: int
    curve: Callable[[Point, int], Curve]
    objective: str = "accuracy"
    validation: int = MANY

    @property
    def maximizes(self) -> bool:
        """Whether more of what is told is better."""
        return direction_of(self.objective) == "maximize"


LCBENCH: Mapping[str, Dimension] = {
    "batch_size": IntRange(kind="int", low=16, high=512, log=True),
    "learning_rate": FloatRange(kind="float", low=1e-4, high=1e-1, log=True),
    "momentum": FloatRange(kind="float", low=0.1, high=0.99),
    "weight_decay": FloatRange(kind="float", low=1e-5, high=0.1),
    "frozen_stages": IntRange(kind="int", low=1, high=5),  # layers
    "head_width": IntRange(kind="int", low=64, high=1024, log=True),  # units
    "random_erasing": FloatRange(kind="float", low=0.0, high=1.0),  # dropout
}
"""In the order of the surrogate's columns."""
LCBENCH_EPOCHS = 52


@dataclass(frozen=True)
class LCBench:
    """The curves of one of LCBench's tasks, and how they are changed.

    Attributes:
        desk: The process that knows the curves.
        task: The number of the task at OpenML.
        seconds: Whether epochs cost what they took, or all the same.
        noise: The standard deviation of what is measured, as a share.
        scrambled: Whether the first three quarters of a curve say nothing of its end.
    """

    desk: Desk
    task: str
    seconds: bool = False
    noise: float = 0.0
    scrambled: bool = False
    scale: Mapping[str, float] = field(default_factory=dict[str, float])

    def __call__(self, point: Point, seed: int) -> Curve:
        """Return the curve of a configuration by its accuracy."""
        found = self.desk.ask("curve", task=self.task, row=[point[name] for name in LCBENCH])
        shares = np.array(found["accuracy"]) / 100
        rng = np.random.default_rng(seed)
        if self.scrambled:
            shares = scrambled(shares, self.scale["accuracy"] / 100, rng)
        told = shares
        if self.noise:
            told = np.clip(shares + rng.normal(0.0, self.noise, len(shares)), 0.0, 1.0)
        cost = found["epoch_s"] / self.scale["epoch_s"] if self.seconds else 1.0
        return Curve(told.tolist(), (100 * shares).tolist(), cost)


def scrambled(
    shares: NDArray[np.float64], usual: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Put a level drawn at random in place of the values before epoch 40; from there to 48 the true ones fade in."""
    before = np.arange(len(shares))
    level = usual * (0.5 + 0.5 * rng.random())
    says_nothing = level * (1 - np.exp(-(before + 1) / 8))
    true = np.clip((before - 40) / 8, 0.0, 1.0)
    return true * shares + (1 - true) * says_nothing


def lcbench(desk: Desk, task: str, variant: str = "") -> Task:
    """Return a task of LCBench, plain or in one of `VARIANTS`."""
    name = f"{task} {variant}".strip()
    if variant in LOSSES:
        losses = Loss(desk, task, diverges=variant == "diverging")
        return Task(name, LCBENCH, LCBENCH_EPOCHS, losses, "loss")
    curves = LCBench(
        desk,
        task,
        seconds=variant == "seconds",
        noise=NOISE if variant == "noise" else 0.0,
        scrambled=variant == "scrambled",
        scale=desk.ask("scale", task=task),
    )
    # As many as make this the noise of an accuracy of 90 %.
    validation = round(0.9 * 0.1 / NOISE**2) if curves.noise else MANY
    return Task(name, LCBENCH, LCBENCH_EPOCHS, curves, validation=validation)


@dataclass(frozen=True)
class Loss:
    """The curves of one of LCBench's tasks by its cross entropy; a point is a hundredth of a nat.

    Attributes:
        desk: The process that knows the curves.
        task: The number of the task at OpenML.
        diverges: Whether trainings with large steps diverge, which are two in five.
    """

    desk: Desk
    task: str
    diverges: bool = False

    def __call__(self, point: Point, _seed: int) -> Curve:
        """Return the curve of a configuration by its cross entropy."""
        told = self.desk.ask("curve", task=self.task, row=[point[name] for name in LCBENCH])[
            "loss"
        ]
        if self.diverges and (end := diverges_at(point)) is not None:
            told = [*told[: end - 1], math.nan]
        return Curve(told, [-100 * loss for loss in told])


LARGEST_STEP = 10**-1.742
"""The learning rate over one minus the momentum that three in five configurations drawn at random stay below."""


def diverges_at(point: Point) -> int | None:
    """Return the epoch at which a training with too large steps diverges, the larger the earlier; None: it does not."""
    step = float(point["learning_rate"] or 0) / (1 - float(point["momentum"] or 0))
    if step <= LARGEST_STEP:
        return None
    return max(1, 13 - round(6 * math.log10(step / LARGEST_STEP)))


_OF_GRIDS = (
    "frozen_stages",
    "unfreeze_every",
    "lora_rank",
    "early_stopping_patience",
    "swa_epochs",
    "adaptation_grid",
)
GRID_EPOCHS = 20


class Grid:
    """Real final values of a grid's cells, scaled to shares, on curves that are made up.

    A curve rises as 1 - exp(-t / tau), where tau depends on the cell and on luck, so that curves cross.

    Args:
        name: The name of the table.
        values: The final values: an axis for each hyperparameter, and one for the seeds.
    """

    def __init__(self, name: str, values: NDArray[np.float64]) -> None:
        is_there: NDArray[np.bool_] = np.isfinite(values)
        counts: NDArray[np.int_] = is_there.sum(-1)
        sums: NDArray[np.float64] = np.where(is_there, values, 0.0).sum(-1)
        mean: NDArray[np.float64] = sums / np.maximum(1, counts)
        known: NDArray[np.float64] = mean[counts > 0]
        low, high = float(np.quantile(known, 0.02)), float(known.max())
        # A seed that the table lacks is as good as the others of its cell; a cell that it lacks is worth nothing.
        mean = np.where(counts > 0, mean, low)
        every = np.where(is_there, values, mean[..., None])
        self.name = name
        self.values: NDArray[np.float64] = np.clip((every - low) / (high - low), 0.0, 1.0)
        self.means: NDArray[np.float64] = np.clip((mean - low) / (high - low), 0.0, 1.0)
        self._slopes: NDArray[np.float64] = np.random.default_rng(5).normal(size=mean.ndim)

    @property
    def space(self) -> dict[str, Dimension]:
        """Whole numbers, or choices where the table is one of network architectures."""
        shape = self.means.shape
        if self.name.startswith("nas"):
            sides = [Choices(kind="choices", choices=tuple(range(length))) for length in shape]
        else:
            sides = [IntRange(kind="int", low=0, high=length - 1) for length in shape]
        return dict(zip(_OF_GRIDS, sides, strict=False))

    def __call__(self, point: Point, seed: int) -> Curve:
        """Return a curve of a cell, to the final value of one of its seeds."""
        cell = tuple(int(point[name] or 0) for name in self.space)
        rng = np.random.default_rng(seed)
        final = self.values[cell][rng.integers(self.values.shape[-1])]
        place: NDArray[np.float64] = (
            np.array(cell, float) / np.maximum(1, np.array(self.means.shape) - 1) - 0.5
        )
        cross = float(0.45 * np.tanh(np.dot(place, self._slopes)) + 0.3 * rng.normal())
        told = rising(final, 0.18 * GRID_EPOCHS * math.exp(cross), GRID_EPOCHS)
        told = np.clip(told + rng.normal(0.0, 0.004, GRID_EPOCHS), 0.0, 1.0)
        worth = rising(float(self.means[cell]), 0.18 * GRID_EPOCHS, GRID_EPOCHS)
        return Curve(told.tolist(), (100 * worth).tolist())


def rising(final: float, tau: float, epochs: int) -> NDArray[np.float64]:
    """Return a curve from a tenth of the final value to it."""
    after = np.arange(1, epochs + 1)
    risen = (1 - np.exp(-after / tau)) / (1 - math.exp(-epochs / tau))
    return final * (0.1 + 0.9 * risen)


def grid(name: str) -> Task:
    """Return a grid's task.

    Raises:
        FileNotFoundError: the tables are not there.
    """
    with np.load(lab.FOLDER / "hpo_grids_final_values.npz") as tables:
        found = Grid(name, tables[name].astype(float))
    return Task(name, found.space, GRID_EPOCHS, found)


def task_of(desk: Desk, name: str) -> Task:
    """Return a task by its name: a grid's, or LCBench's and a variant, as in `7593 noise`.

    Raises:
        ValueError: it is not one of the tasks that constants may be chosen on.
    """
    number, _, variant = name.partition(" ")
    if name in GRIDS:
        return grid(name)
    if number not in TASKS or variant not in ("", *VARIANTS):
        raise ValueError(
            f"{name!r} is none of {', '.join((*TASKS, *GRIDS))}; behind a number may stand "
            f"one of {', '.join(VARIANTS)}"
        )
    return lcbench(desk, number, variant)
