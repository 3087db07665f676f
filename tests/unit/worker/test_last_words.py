"""How a trial ends in the runner's hands, whatever happens in it."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from torch import nn

from tests.support.leases import a_lease
from trimtab.contract.leases import Completed, Failed, Infeasible
from trimtab.contract.validation_outputs import ValidationOutputs
from worker.pipe_messages import Ended, RunTrial
from worker.runner.costs import Violates
from worker.runner.ending import TrialEnding
from worker.runner.progress import Cancelled, Finished, Paused, ProgressReporter
from worker.runner.starting import StartedTraining
from worker.runner.trial import TrialRun
from worker.training.errors import Diverged
from worker.training.loop import trying
from worker.training.loop.epochs import EpochResult

MEASURED = {"loss": 0.5, "accuracy": 0.7, "parameters": 2.0, "train_seconds": 2.0}
HITS = ValidationOutputs(form="hits", epochs=1, rows=8, columns=1, body="eJwTAAAACgAK")


def words_after(error: Exception, folder: Path) -> tuple[Ended, Any]:
    """What the agent is told when a part of a trial raises this, and the bench afterwards."""
    resources = Mock()
    ending = TrialEnding(resources, RunTrial(lease=a_lease(), folder=folder))
    with ending.guard():
        raise error
    assert ending.has_ended
    (told,) = [call.args[0] for call in resources.channel.say.call_args_list]
    return told, resources


def test_a_word_to_end_is_no_failure_of_the_trial(tmp_path: Path) -> None:
    told, _ = words_after(Cancelled(), tmp_path)
    assert told.outcome == Failed(error="cancelled")


def test_a_configuration_that_violates_a_constraint_is_no_failure(tmp_path: Path) -> None:
    told, _ = words_after(Violates({"parameters": 9.0}), tmp_path)
    assert told.outcome == Infeasible(measured={"parameters": 9.0})


def test_what_went_wrong_is_told_by_its_kind(tmp_path: Path) -> None:
    told, _ = words_after(Diverged(3, "training"), tmp_path)
    assert isinstance(told.outcome, Failed)
    assert told.outcome.error == "diverged"


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Diverged(3, "training"), True),
        (Cancelled(), True),
        (RuntimeError("nobody foresaw this"), False),
        (MemoryError(), False),
        (OSError("the disk is gone"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_kept_backbone_goes_only_where_it_may_be_damaged(
    error: Exception, kept: bool, tmp_path: Path
) -> None:
    _, resources = words_after(error, tmp_path)
    assert resources.backbone_cache.clear.called is not kept


def a_run(folder: Path, *, epochs: int) -> tuple[TrialRun, Any]:
    """A trial of so many epochs, which is worth 0.7, and what it works on."""
    resources, training = Mock(), Mock()
    training.progress.epochs, training.progress.value = epochs, 0.7
    training.progress.kept_metrics, training.progress.seconds = {"loss": 0.5}, 2.0
    training.validation_outputs = HITS
    training.learner.objective.metric = "accuracy"
    training.learner.model.network = nn.Linear(1, 1)
    ending = TrialEnding(resources, RunTrial(lease=a_lease(), folder=folder))
    ending.writer = Mock(newest=None, best=None)
    started = StartedTraining(training, Mock(), Mock(peak_bytes=None), Mock())
    return TrialRun(resources, RunTrial(lease=a_lease(), folder=folder), started, ending, 0), (
        resources,
        ending.writer,
    )


def outcome_of(resources: Any) -> object:
    return next(
        call.args[0].outcome
        for call in resources.channel.say.call_args_list
        if isinstance(call.args[0], Ended)
    )


def test_a_trial_told_to_finish_after_an_epoch_completes_with_it(
    tmp_path: Path,
) -> None:
    trial, (resources, writer) = a_run(tmp_path, epochs=3)
    trial._epoch = Mock(epoch=2, last=False)  # pyright: ignore[reportPrivateUsage] - what `report` leaves
    resources.channel.verdict.return_value = "finish"
    trial.obey_verdict()
    assert outcome_of(resources) == Completed(
        value=0.7, validation_outputs=HITS, measured=MEASURED
    )
    assert writer.save_best.called


@pytest.mark.parametrize(
    ("epochs", "outcome"),
    [
        (3, Completed(value=0.7, validation_outputs=HITS, measured=MEASURED)),
        (0, Failed(error="cancelled")),
    ],
    ids=str,
)
def test_a_trial_told_to_finish_within_an_epoch_completes_if_it_has_another(
    tmp_path: Path, epochs: int, outcome: object
) -> None:
    trial, (resources, writer) = a_run(tmp_path, epochs=epochs)
    trial.report(Finished())
    assert outcome_of(resources) == outcome
    assert trial.has_ended
    assert writer.save_best.called is (epochs > 0)


@pytest.mark.parametrize(("word", "raised"), [("finish", Finished), ("cancel", Cancelled)])
def test_a_word_between_two_batches_ends_the_epoch(word: str, raised: type[Exception]) -> None:
    channel = Mock()
    channel.verdict_between_epochs.return_value = word
    with pytest.raises(raised):
        ProgressReporter(channel, a_lease().lease_id).batch()


AN_EPOCH = EpochResult(
    epoch=0,
    value=0.5,
    trial_value=0.5,
    train_loss=1.0,
    metrics={},
    seconds=3.0,
    kept=True,
    last=False,
    _training=Mock(),
)


@pytest.mark.parametrize(
    ("slower", "last", "expected"),
    [
        (True, False, ["told", "tried", "saved"]),
        (False, False, ["told", "saved"]),
        (True, True, ["told", "saved"]),
    ],
)
def test_threads_are_tried_again_after_an_epoch_is_told_and_before_its_state_is_saved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slower: bool,
    last: bool,
    expected: list[str],
) -> None:
    done: list[str] = []

    def noting(what: str) -> Any:
        def note(*_: object) -> None:
            done.append(what)

        return Mock(side_effect=note)

    trial, (resources, writer) = a_run(tmp_path, epochs=1)
    monkeypatch.setattr(trying, "tells", Mock(return_value=True))
    monkeypatch.setattr(trying, "choose_threads", noting("tried"))
    started: Any = trial.started
    started.threads.should_try_again.return_value = slower
    started.watch.news.return_value = None
    monkeypatch.setattr(trial, "_introduce", Mock())
    resources.channel.say, writer.offer = noting("told"), noting("saved")
    trial.report(replace(AN_EPOCH, last=last))
    assert done == expected


def test_a_trial_that_is_paused_within_an_epoch_is_released_with_its_state(
    tmp_path: Path,
) -> None:
    trial, (resources, writer) = a_run(tmp_path, epochs=1)
    trial.report(Paused())
    (saved,) = writer.save.call_args.args
    started: Any = trial.started
    assert saved.state() is started.training.state.return_value
    assert not saved.kept
    assert outcome_of(resources) is None
    assert trial.has_ended


def test_a_trial_that_is_paused_before_its_first_epoch_began_is_released_as_it_was(
    tmp_path: Path,
) -> None:
    told, _ = words_after(Paused(), tmp_path)
    assert told.outcome is told.newest is None
