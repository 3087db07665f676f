"""Runs a final lease: evaluates the study's winner on the sealed test split, and exports it."""

import logging

from trimtab.contract.leases import Completed, Outcome
from worker import atomic_files
from worker.data import Seal, TaskData
from worker.pipe_messages import OPENING, Began, RunTrial, StoredFile
from worker.runner import trial_record
from worker.runner.ending import TrialEnding
from worker.runner.progress import Cancelled, ProgressReporter, Released
from worker.runner.resources import Resources
from worker.runner.trial import start_training
from worker.training.device.threads import computing_on
from worker.training.errors import CheckpointError
from worker.training.final.evaluation import final_evaluation
from worker.training.loop.epochs import epochs_of
from worker.training.loop.state import FitState

log = logging.getLogger(__name__)


def run(resources: Resources, order: RunTrial) -> None:
    """Evaluate and export a study's winner."""
    ending = TrialEnding(resources, order)
    with ending.guard():
        try:
            outcome, model = _evaluate(resources, order)
        except Released:
            ending.end(None)
        else:
            ending.end(outcome, model)


def _evaluate(resources: Resources, order: RunTrial) -> tuple[Outcome, StoredFile]:
    """Evaluate the winner on the test split and export it; return the outcome and the model file."""
    order = resources.admit(order)
    lease = order.lease
    progress = ProgressReporter(resources.channel, lease.lease_id)
    seal = Seal(lease.kind)
    state = _winner(resources, order, progress)
    order.folder.mkdir(parents=True, exist_ok=True)
    path = order.folder / "model.safetensors"

    def ask(seen: TaskData) -> None:
        """Ask the agent before the test split is opened."""
        # The service records the opening first, so that no evaluation on the test split can go unrecorded.
        record = trial_record.record_of(seen, lease.recipe, resources.device)
        resources.channel.say(Began(lease_id=lease.lease_id, record=record))
        match resources.channel.verdict(lease.lease_id, OPENING):
            case "continue":
                return
            case "cancel":
                raise Cancelled
            case _:
                raise Released

    with progress.busy(), computing_on(_threads(state, resources)):
        scores = final_evaluation(
            lease.task,
            lease.model,
            lease.recipe,
            state,
            seal=seal,
            cache_dir=resources.cache_dir,
            own=resources.own,
            download=resources.download,
            roots=resources.roots,
            device=resources.device,
            before_opening=ask,
            export_to=path,
            teacher=lease.teacher,
        )
    model = StoredFile(
        path=path, sha256=atomic_files.sha256_of(path), bytes=path.stat().st_size
    )
    outcome = Completed(value=scores.value, metrics=scores.by_name(), model_sha256=model.sha256)
    return outcome, model


def _threads(state: FitState, resources: Resources) -> int:
    # Where one of the two numbers was not tried, it is the largest.
    return min(state.threads.features, state.threads.steps, resources.threads.most)


def _winner(resources: Resources, order: RunTrial, progress: ProgressReporter) -> FitState:
    """Load the state that the winner has kept; if it is lost, train the winner again from the same seed."""
    for saved in order.resume:
        try:
            return FitState.load(saved.path)
        except CheckpointError as error:
            log.warning("the checkpoint of step %d cannot be used: %s", saved.step, error)
    log.warning("the winner's checkpoint is lost: the winner is trained again")
    anew = start_training(resources, order.model_copy(update={"resume": ()}), progress)
    # Unpacking a generator keeps one state at a time; a list would hold every epoch's in memory.
    *_, kept = (epoch.state() for epoch in epochs_of(anew.training) if epoch.kept)
    return kept
