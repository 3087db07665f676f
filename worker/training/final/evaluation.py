"""The final evaluation of one trained state: what `handover` does where there is nothing to choose from."""

from collections.abc import Callable
from pathlib import Path

import torch

from trimtab.contract.recipe import Recipe
from trimtab.contract.tasks import Model, Task
from trimtab.contract.teachers import Teacher
from worker.data import Seal, TaskData
from worker.data.roots import Roots
from worker.training.final.candidates import Finalist
from worker.training.final.evaluator import Evaluator
from worker.training.final.handover import Files, hand_over
from worker.training.final.scores import FinalScores
from worker.training.loop.state import FitState
from worker.training.model.user_backbones import OwnBackbones


def final_evaluation(
    task: Task,
    model: Model,
    recipe: Recipe,
    state: FitState,
    *,
    seal: Seal,
    cache_dir: Path,
    download: bool = False,
    roots: Roots | None = None,
    weights_dir: Path | None = None,
    own: OwnBackbones | None = None,
    device: torch.device,
    before_opening: Callable[[TaskData], object] = lambda _: None,
    export_to: Path | None = None,
    teacher: Teacher | None = None,
) -> FinalScores:
    """Measure a trained state once on the sealed test split, and what it began with.

    Args:
        task: The task that was learned.
        model: The pretrained model that it began with.
        recipe: The recipe that it was trained by.
        state: The state after its training.
        seal: The right to open the test split.
        cache_dir: The folder of decoded data sets.
        download: Whether a public data set that is not there may be fetched.
        roots: The folders that data may be read from; None allows what no roots allow.
        weights_dir: The folder of published weights; None is torch's cache and the working directory.
        own: The backbones that are registered on this worker.
        device: The device that it is measured on.
        before_opening: Called with the other splits when all else is ready; what it raises leaves the test split sealed.
        export_to: File to write the model to, with these scores on its card; None writes none.
        teacher: The model whose answers it may have learned; None: nobody taught it.

    Raises:
        DataError: The data are missing or broken.
        WeightsError: The pretrained weights cannot be had.
        BackboneError: The backbone is not registered here.
        CheckpointIncompatible: `state` is another model's.
    """
    evaluator = Evaluator(
        task, model, cache_dir, device, download, roots, weights_dir=weights_dir, own=own
    )
    handed_over = hand_over(
        evaluator,
        [Finalist(0, recipe, lambda: state)],
        seal=seal,
        before_opening=before_opening,
        files=None if export_to is None else Files(export_to),
        teacher=teacher,
        may_choose=False,
    )
    return handed_over.scores
