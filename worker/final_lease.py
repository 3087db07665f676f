"""A final lease in the runner's hands: the winner meets the sealed test split, and is exported."""

import logging

from trimtab.contract.leases import Completed, Outcome
from worker import beginning, durable
from worker.bench import Bench
from worker.data import Seal, TaskData
from worker.last_words import LastWords
from worker.pipe_messages import OPENING, Began, RunTrial, StoredFile
from worker.signs_of_life import Cancelled, PutAside, SignsOfLife
from worker.trainee import begun
from worker.training.epochs import epochs_of
from worker.training.errors import CheckpointError
from worker.training.final import final_evaluation
from worker.training.state import FitState

log = logging.getLogger(__name__)


def run(bench: Bench, order: RunTrial) -> None:
    """Evaluate and export a study's winner."""
    words = LastWords(bench, order)
    with words.carefully():
        try:
            outcome, model = _evaluate(bench, order)
        except PutAside:
            words.say(None)
        else:
            words.say(outcome, model)


def _evaluate(bench: Bench, order: RunTrial) -> tuple[Outcome, StoredFile]:
    """Measure the winner on the sealed test split, and export it."""
    lease = order.lease
    signs = SignsOfLife(bench.line, lease.lease_id)
    seal = Seal(lease.kind)
    state = _winner(bench, order, signs)
    order.folder.mkdir(parents=True, exist_ok=True)
    path = order.folder / "model.safetensors"

    def ask(seen: TaskData) -> None:
        """First it is noted, then done: no test split is opened without a word of it in the log."""
        record = beginning.record_of(seen, lease.recipe, bench.device)
        bench.line.say(Began(lease_id=lease.lease_id, record=record))
        match bench.line.verdict(lease.lease_id, OPENING):
            case "continue":
                return
            case "cancel":
                raise Cancelled
            case _:
                raise PutAside

    with signs.busy():
        scores = final_evaluation(
            lease.task,
            lease.model,
            lease.recipe,
            state,
            seal=seal,
            cache_dir=bench.cache_dir,
            own=bench.own,
            download=bench.download,
            device=bench.device,
            before_opening=ask,
            export_to=path,
            teacher=lease.teacher,
        )
    model = StoredFile(path=path, sha256=durable.sha256_of(path), bytes=path.stat().st_size)
    outcome = Completed(value=scores.value, metrics=scores.by_name(), model_sha256=model.sha256)
    return outcome, model


def _winner(bench: Bench, order: RunTrial, signs: SignsOfLife) -> FitState:
    """Load the winner's best state; where that is lost, train it again, from the same seed."""
    for saved in order.resume:
        try:
            return FitState.load(saved.path)
        except CheckpointError as error:
            log.warning("step %d is passed over: %s", saved.step, error)
    log.warning("the winner's checkpoint is lost: it is trained again")
    anew = begun(bench, order.model_copy(update={"resume": ()}), signs)
    # One at a time: a list of all bests would hold each of them in memory.
    *_, best = (epoch.state() for epoch in epochs_of(anew.training) if epoch.best)
    return best
