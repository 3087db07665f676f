"""Knowledge distillation: a student learns a teacher's whole answer to a sample beside its label.

Hinton, Vinyals and Dean (2015), https://arxiv.org/abs/1503.02531, section 2: both answers are softened by a temperature
T, and since the gradients of the softened loss shrink by T squared, it is multiplied by that.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from trimtab.contract.recipe import Recipe
from worker.data import TaskData
from worker.training.augment import augmentation
from worker.training.device.micro_batches import MicroBatches
from worker.training.device.placement import PlacedSplit, autocast, row_batches
from worker.training.errors import ModelUnreadable, TeacherMissing, TeacherUnfit
from worker.training.features import features
from worker.training.features.feature_cache import FeatureCache
from worker.training.model import export
from worker.training.model.card import InputCard, TokenCard
from worker.training.model.user_backbones import OwnBackbones
from worker.training.objective.evaluate import BATCH_SIZE

_FORMAT = 1
"""Part of every key: a change of how answers are computed makes old ones invisible."""


class Teacher:
    """An exported model of the same classes as the task; its network is loaded when it is asked.

    Attributes:
        path: The model's file.
        sha256: Hash of that file.
    """

    def __init__(
        self, path: Path, classes: Sequence[str], own: OwnBackbones | None = None
    ) -> None:
        """Read its card.

        Args:
            path: The model's file.
            classes: The student's class names; the teacher may have them in another order.
            own: The backbones that are registered on this worker.

        Raises:
            TeacherMissing: There is no such file.
            ModelUnreadable: It is no exported model.
            TeacherUnfit: It tells other classes apart, or predicts something else.
        """
        if not path.is_file():
            raise TeacherMissing(path)
        card = export.read_card(path)
        if card.kind != "classification":
            raise TeacherUnfit(
                path, f"only a classification is taught, and this is a {card.kind}"
            )
        self._card, theirs = card, card.classes
        if set(theirs) != set(classes):
            raise TeacherUnfit(path, _difference(theirs, classes))
        self.path = path
        self._own = own
        # Columns of the teacher's logits in the student's order of classes.
        self._order = [theirs.index(name) for name in classes]
        try:
            with path.open("rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelUnreadable(path, str(error)) from error

    def check(self, taken: InputCard, columns: Sequence[str] = ()) -> None:
        """See that the teacher takes the samples that the student's input layer takes.

        Args:
            taken: The student's input layer.
            columns: The columns of the task's texts, as far as they are known: two of them are pairs.

        Raises:
            TeacherUnfit: They are of another kind, pairs or single texts where the teacher was trained on the other, or
                texts in another tokenizer's word pieces.
        """
        told = [member.input for member in self._card.each()]
        if not isinstance(taken, TokenCard):
            if any(isinstance(one, TokenCard) for one in told):
                raise TeacherUnfit(self.path, "it reads texts, and the task has pictures")
            return
        if not all(isinstance(one, TokenCard) and one.sha256 == taken.sha256 for one in told):
            raise TeacherUnfit(
                self.path,
                "a text is told to it in the student's word pieces, and its tokenizer is another",
            )
        # Cards that name no columns do not tell how many texts make a sample.
        theirs = self._card.texts
        if theirs and columns and len(theirs) != len(columns):
            raise TeacherUnfit(
                self.path, f"it reads {_samples(theirs)}, and the task has {_samples(columns)}"
            )

    def at_work(self, device: torch.device, precision: str) -> Callable[[Tensor], Tensor]:
        """Load the teacher's network.

        Returns:
            A function from stored samples `(N, ...)` to logits `(N, classes)`, in the student's order of classes. It
            takes the samples as the student's task has them, and resizes them to what the teacher was trained on.
            After the device has run out of memory, it computes fewer samples at once.
        """
        predictor = export.load_exported(self.path, own=self._own)
        models = [member.model for member in predictor.members]
        for model, member in zip(models, predictor.members, strict=True):
            model.input = model.input.resized_to(member.card.shape)
            model.to(device)
        micro_batches = MicroBatches()

        def compute(stored: Tensor) -> Tensor:
            placed = stored.to(device)
            # Of several, the logarithms of the mean probabilities are logits like any others.
            logits = predictor.combine([model(placed) for model in models])
            return logits[:, self._order].float()

        def answer(stored: Tensor) -> Tensor:
            with torch.no_grad(), autocast(device, precision):
                return torch.cat(micro_batches.each(stored, compute))

        return answer


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a teacher says of the training split, and how much it counts.

    Attributes:
        answers: The teacher's logits `(N, classes)`, by row of the split; or the teacher itself, where augmentation
            changes the samples from step to step.
        temperature: The number that both answers are divided by before the softmax.
        weight: The share of the teacher's loss, from 0 to 1; the task's own loss has the rest.
    """

    answers: PlacedSplit | Callable[[Tensor], Tensor]
    temperature: float
    weight: float

    def of(self, rows: Tensor, inputs: Tensor) -> Tensor:
        """Return the teacher's logits `(n, classes)` of a batch: its rows, and its samples as the student sees them."""
        if not isinstance(self.answers, PlacedSplit):
            return self.answers(inputs)
        answers, _ = self.answers.take(rows)
        return answers

    def loss(self, task_loss: Tensor, outputs: Tensor, answers: Tensor) -> Tensor:
        """Return the mean loss over a batch: the task's, and the distance to the teacher's answers."""
        ours, theirs = (
            functional.log_softmax(logits.float() / self.temperature, dim=1)
            for logits in (outputs, answers)
        )
        distance = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return (1 - self.weight) * task_loss + self.weight * self.temperature**2 * distance


def lessons_of(
    teacher: Teacher | None,
    data: TaskData,
    recipe: Recipe,
    device: torch.device,
    *,
    taken: InputCard,
    cache: FeatureCache | None,
    each_batch: Callable[[], object],
) -> Lessons | None:
    """Ask the teacher about the training split, once for all trials; None where nobody teaches.

    Args:
        teacher: The model to ask, if any.
        data: The data whose training split is asked about.
        recipe: Says temperature, weight and precision; at a weight of 0 nobody is asked.
        device: The device that computes.
        taken: The student's input layer: the teacher must take the same samples.
        cache: Keeps answers for later trials; None computes them for this training alone.
        each_batch: Called before every batch.
    """
    if teacher is None or recipe.distillation_weight == 0:
        return None
    teacher.check(taken, data.details.get("columns", ()))
    lessons = partial(
        Lessons,
        temperature=recipe.distillation_temperature,
        weight=recipe.distillation_weight,
    )

    # What an augmented sample looks like is not known before the step, so that the teacher must be asked at each one.
    if augmentation.is_wanted(recipe, data.modality):
        return lessons(teacher.at_work(device, recipe.precision))

    def make() -> Tensor:
        # About all samples, also those that this training does not see: others will. In batches of one size and in
        # the order of the split, so that the answers are the same bits for whichever trial asks first.
        answer = teacher.at_work(device, recipe.precision)
        stored = torch.from_numpy(data.train.inputs)
        kept: list[Tensor] = []
        for rows in row_batches(torch.arange(len(stored)), BATCH_SIZE):
            each_batch()
            kept.append(answer(stored.index_select(0, rows)).cpu())
        return torch.cat(kept)

    if cache is None or not data.key:
        answers = make()
    else:
        # The temperature and the weight are not in the key: logits do not depend on them, and trials differ in them.
        facts = {"answers": _FORMAT, "teacher": teacher.sha256, "data": data.key}
        answers = cache.get(
            json.dumps(facts | features.machine(device, recipe.precision)), make
        )
    return lessons(PlacedSplit(data.train, device, answers))


def _samples(columns: Sequence[str]) -> str:
    kind = "pairs of texts" if len(columns) == 2 else "single texts"
    return f"{kind} ({', '.join(columns)})"


def _difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    lacks = ", ".join(sorted(set(ours) - set(theirs))[:5]) or "none"
    more = ", ".join(sorted(set(theirs) - set(ours))[:5]) or "none"
    return (
        "a teacher must know the classes of the task and no others; "
        f"of the task's it lacks: {lacks}; of its own the task lacks: {more}"
    )
