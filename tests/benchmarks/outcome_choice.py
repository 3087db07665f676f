"""What the choice of epoch and trial is worth, all else alike: the same trainings, read by three rules.

No document switches these rules, so the first trials of a study in the product's own space are trained here by the worker's
own loop on four fifths of train, and after each epoch both the validation and the test accuracy are measured.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from service.sampling import distributions
from service.sampling.initial import InitialDesign
from service.use_cases.settling import with_known_recipes
from tests.benchmarks.outcome_results import Done
from tests.benchmarks.outcome_tasks import Job
from tests.support import lab
from trimtab.contract.external import ExternalTask
from trimtab.contract.studies import StudyDocument
from worker import data
from worker.training.device.placement import PlacedSplit
from worker.training.loop.fit import TrainingRequest, fit
from worker.training.model import backbones
from worker.training.model.user_backbones import OwnBackbones
from worker.training.objective import objectives
from worker.training.objective.evaluate import evaluate

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Curve:
    """Accuracies of one training after each epoch."""

    validation: list[float]
    test: list[float]

    @property
    def best(self) -> int:
        """The epoch of the highest validation accuracy, the first of equals."""
        return self.validation.index(max(self.validation))


Rule = Callable[[Curve], tuple[float, float]]
"""From a curve to the trial's value and the test accuracy of the epoch that it keeps."""
RULES: Mapping[str, Rule] = {
    "choice": lambda curve: (statistics.fmean(curve.validation[-3:]), curve.test[-1]),
    "choice_without_averaged_epochs": lambda curve: (curve.validation[-1], curve.test[-1]),
    "choice_without_last_epoch": lambda curve: (max(curve.validation), curve.test[curve.best]),
}
"""The product's rule, and the same without a part: by the last validation alone; by the best, whose epoch is kept."""


def chosen(job: Job, document: StudyDocument, folder: Path) -> list[Done]:
    """Train the first trials of a study, and return what each rule makes of them.

    Args:
        job: The task.
        document: The study as a person would submit it.
        folder: The folder for decoded pictures.
    """
    began = time.process_time()
    trainings = _Trainings(document, folder)
    curves = [trainings.run(number) for number in range(document.search_budget.trials)]
    cpu_s = round(time.process_time() - began, 1)
    return [
        Done(
            job.name,
            document.search.seed or 0,
            side,
            (max(map(rule, curves))[1],),
            len(curves) * job.epochs,
            cpu_s,
        )
        for side, rule in RULES.items()
    ]


class _Trainings:
    """The first trials of a study, by their number."""

    def __init__(self, document: StudyDocument, folder: Path) -> None:
        self._document = with_known_recipes(document)
        space = self._document.space
        self._design = InitialDesign(self._document, distributions.distributions(space))
        self._own = OwnBackbones.gather([lab.register_mobilenet(folder)])
        self._cache = folder / "cache-choice"

    def run(self, number: int) -> Curve:
        """Train one; test pictures are opened as a final evaluation opens them."""
        task, model = self._document.task, self._document.model_of({})
        start = self._design.at(number)
        if start is None or isinstance(task, ExternalTask):
            raise ValueError("the space has no further point, or no data")
        recipe = self._document.recipe(start.values)
        wanted = backbones.input_spec(model, recipe, self._own)
        seen = data.load(task, cache_dir=self._cache, wanted=wanted)
        test = data.open_test(task, data.Seal("final"), cache_dir=self._cache, wanted=wanted)
        network = backbones.build(model, classes=seen.outputs, seed=number, own=self._own)
        placed, objective = PlacedSplit(test, CPU), objectives.of(seen, recipe)
        curve = Curve([], [])
        for epoch in fit(TrainingRequest(network, seen, recipe, seed=number, device=CPU)):
            curve.validation.append(epoch.value)
            curve.test.append(evaluate(network, placed, objective).metrics["accuracy"])
        return curve
