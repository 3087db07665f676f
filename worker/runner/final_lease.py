"""Runs a final lease: chooses the model that a study hands over, evaluates it on the sealed test split, and exports it."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from trimtab.contract.leases import Completed, Lease, Outcome
from worker import atomic_files, trial_outputs
from worker.data import Seal, TaskData
from worker.pipe_messages import OPENING, Began, RunTrial, SavedState, StoredFile
from worker.runner import trial_record
from worker.runner.ending import TrialEnding
from worker.runner.progress import Cancelled, ProgressReporter, Released
from worker.runner.resources import Resources
from worker.runner.starting import start_training
from worker.training.device.threads import computing_on
from worker.training.errors import CheckpointError, CheckpointMissing
from worker.training.final.candidates import Finalist
from worker.training.final.correction import TrialAnswers
from worker.training.final.evaluator import Evaluator
from worker.training.final.handover import Files, HandedOver, hand_over
from worker.training.loop.epochs import epochs_of
from worker.training.loop.state import FitState
from worker.training.objective.validation_outputs import unpack

log = logging.getLogger(__name__)


def run(resources: Resources, order: RunTrial) -> None:
    """Evaluate and export what a study hands over."""
    ending = TrialEnding(resources, order)
    with ending.guard():
        try:
            outcome, models = _evaluate(resources, order)
        except Released:
            ending.end(None)
        else:
            ending.end(outcome, models)


def _evaluate(resources: Resources, order: RunTrial) -> tuple[Outcome, tuple[StoredFile, ...]]:
    """Choose, evaluate and export; return the outcome and the model files."""
    order = resources.admit(order)
    lease = order.lease
    progress = ProgressReporter(resources.channel, lease.lease_id)
    state = _winner(resources, order, progress)
    order.folder.mkdir(parents=True, exist_ok=True)
    files = Files(
        order.folder / "model.safetensors",
        order.folder / "validated.safetensors" if lease.members else None,
    )
    with progress.busy(), computing_on(_threads(state, resources)):
        handed_over = hand_over(
            _evaluator(resources, lease),
            list(_finalists(order, state)),
            seal=Seal(lease.kind),
            before_opening=partial(_ask, resources, lease),
            files=files,
            teacher=lease.teacher,
            # A service of before knows of no choice, and of no report.
            may_choose=bool(lease.members),
            trials=answers(order),
        )
    return _outcome(handed_over, files)


def _ask(resources: Resources, lease: Lease, seen: TaskData) -> None:
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


def _evaluator(resources: Resources, lease: Lease) -> Evaluator:
    return Evaluator(
        lease.task,
        lease.model,
        resources.cache_dir,
        resources.device,
        download=resources.download,
        roots=resources.roots,
        own=resources.own,
    )


def _finalists(order: RunTrial, winner: FitState) -> Iterator[Finalist]:
    """Return the trials that the model may be made of, the winner first, with what reads their states."""
    lease = order.lease
    # One that was told of and could not be fetched is to be missed in words.
    refits = [tuple(partial(_read, state) for state in saved.refits) for saved in order.members]
    first = refits[0] if refits else ()
    yield Finalist(lease.trial_number, lease.recipe, lambda: winner, first, lease.model)
    others = zip(lease.members[1:], order.members[1:], refits[1:], strict=True)
    for member, saved, refit in others:
        validated = partial(_read, saved.validated)
        yield Finalist(member.trial_number, member.recipe, validated, refit, member.model)


def answers(order: RunTrial) -> list[TrialAnswers]:
    """Return what trials answered to the validation split, as far as it is known and legible."""
    if order.outputs is None:
        return []
    try:
        return [
            TrialAnswers(
                one.trial_number, one.value, unpack(one.outputs), one.outputs.form == "hits"
            )
            for one in trial_outputs.read(order.outputs)
        ]
    except (OSError, ValueError) as error:
        log.warning("what trials answered to the validation split is of no use: %s", error)
        return []


def _read(saved: SavedState | None) -> FitState:
    if saved is None:
        raise CheckpointMissing
    return FitState.load(saved.path)


def _outcome(handed_over: HandedOver, files: Files) -> tuple[Outcome, tuple[StoredFile, ...]]:
    models = [_stored(files.handed_over)]
    if files.validated is not None and handed_over.kind != "winner":
        models.append(_stored(files.validated))
    outcome = Completed(
        value=handed_over.scores.value,
        metrics=handed_over.scores.by_name(),
        model_sha256=models[0].sha256,
        validated_sha256=models[1].sha256 if len(models) > 1 else None,
        report=handed_over.report,
    )
    return outcome, tuple(models)


def _stored(path: Path) -> StoredFile:
    return StoredFile(path=path, sha256=atomic_files.sha256_of(path), bytes=path.stat().st_size)


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
