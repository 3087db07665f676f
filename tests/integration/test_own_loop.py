"""A loop of a person's own trains the trials of an external study, over HTTP."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tests.support.app import Running
from tests.support.own_loops import an_external_document
from trimtab import Client
from trimtab.client.loop_trial import LoopTrial
from trimtab.contract import problems
from trimtab.contract.external_leases import ExternalLease, ExternalLeases
from trimtab.contract.leases import LeaseRequest, Release
from trimtab.contract.trials import Trial

NAN = float("nan")


class Spy(Client):
    """Remembers what it was given."""

    leases: tuple[ExternalLease, ...] = ()

    def claim_external(self, request: LeaseRequest) -> ExternalLeases:
        """Claim, and remember the leases."""
        found = super().claim_external(request)
        self.leases += found.leases
        return found


def train(client: Client, study: str, *steps: Callable[[LoopTrial], object]) -> None:
    """Train one trial step by step."""
    with client.trial(study) as trial:
        for step in steps:
            step(trial)


def failing(error: BaseException) -> Callable[[LoopTrial], object]:
    """A step of a loop that fails."""

    def step(_: LoopTrial) -> object:
        raise error

    return step


def reporting(step: int, value: float) -> Callable[[LoopTrial], object]:
    """A step of a loop that goes well."""
    return lambda trial: trial.report(step, value)


@pytest.fixture
def study(client: Client) -> str:
    """An external study of three trials."""
    return client.create_study(an_external_document()).name


def test_a_loop_trains_the_trials_of_its_study_until_it_is_done(
    client: Client, study: str, tmp_path: Path
) -> None:
    told: list[float] = []
    for trial in client.loop(study, label="my-loop"):
        with trial:
            assert trial.number == len(told)
            assert set(trial.hyperparameters) == {"rate", "width"}
            assert trial.hyperparameters["width"] == 8
            rate = trial.hyperparameters["rate"]
            assert trial.report(0, accuracy=rate / 2, loss=1.0)
            assert trial.report(1, rate)
            (tmp_path / "state").write_text(str(rate))
            trial.save(tmp_path / "state")
            told.append(rate)
    seen, best = client.study(study), client.best(study)
    assert (seen.state, seen.ended_by, seen.problem) == ("done", "trials", None)
    assert seen.progress.completed == len(told) == 3
    assert seen.progress.epochs == 6
    assert (best.trial.value, best.trial.number) == (max(told), told.index(max(told)))
    assert (best.model, best.recipe, best.final) == (None, None, None)
    saved = client.download_checkpoint(study, tmp_path / "best")
    assert saved.read_text() == str(max(told))
    first = client.trial(study, 0)
    assert [point.value for point in first.curve] == [told[0] / 2, told[0]]
    assert first.metrics[0] == {"accuracy": told[0] / 2, "loss": 1.0}
    assert [one.worker for one in first.attempts] == ["my-loop"]
    # One loop is one worker, whatever the number of its trials.
    assert [one.study for one in client.workers().workers] == [study]


def test_a_study_that_is_over_has_no_more_trials(client: Client, study: str) -> None:
    client.cancel(study)
    with pytest.raises(problems.StudyNotActive, match="is cancelled"), client.trial(study):
        pass
    assert list(client.loop(study)) == []


def test_an_exception_fails_the_trial_and_goes_on(client: Client, study: str) -> None:
    mistake = failing(ZeroDivisionError("the loop's own mistake"))
    with pytest.raises(ZeroDivisionError):
        train(client, study, reporting(0, 0.5), mistake)
    seen = client.trial(study, 0)
    assert (seen.state, seen.error_kind, seen.crashes) == ("failed", "crashed", 0)
    assert str(seen.error_message).startswith("ZeroDivisionError: the loop's own mistake\n")
    assert "raise error" in str(seen.error_message)


def test_a_want_of_memory_teaches_the_sampler(client: Client, study: str) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    with pytest.raises(OutOfMemoryError):
        train(client, study, failing(OutOfMemoryError()))
    assert client.trial(study, 0).error_kind == "oom"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_loop_gives_its_trial_back(
    client: Client, study: str, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        train(client, study, reporting(0, 0.5), failing(error()))
    seen = client.trial(study, 0)
    assert (seen.state, seen.crashes, seen.attempts[0].outcome) == ("queued", 0, "drained")


def test_a_loop_that_is_told_to_stop_has_pruned_its_trial(client: Client, study: str) -> None:
    with client.trial(study) as trial:
        assert trial.report(0, 0.5)
        assert not trial.should_stop
        client.stop_trial(study, 0)
        assert not trial.report(1, 0.6)
        assert trial.should_stop
        # Whatever is reported after that is not sent.
        assert not trial.report(2, 0.7)
    seen = client.trial(study, 0)
    assert (seen.state, len(seen.curve)) == ("pruned", 2)


def test_a_cancelled_study_ends_its_trials(client: Client, study: str) -> None:
    with client.trial(study) as trial:
        client.cancel(study)
        assert not trial.report(0, 0.5)
    assert client.trial(study, 0).state == "cancelled"


def test_a_paused_trial_goes_on_from_its_checkpoint(
    client: Client, study: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with client.trial(study) as trial:
        assert (trial.resume, trial.first_step) == (None, 0)
        trial.report(0, 0.5)
        client.pause(study)
        assert not trial.report(1, 0.6)
        state.write_text("after step 1")
        trial.save(state)
    assert client.trial(study, 0).state == "paused"
    client.resume(study)
    with client.trial(study) as trial:
        assert (trial.number, trial.first_step) == (0, 2)
        resumed = trial.resume
        assert resumed is not None
        assert resumed.read_text() == "after step 1"
        trial.report(2, 0.7)
    seen = client.trial(study, 0)
    assert (seen.state, seen.value) == ("completed", 0.7)
    assert [point.value for point in seen.curve] == [0.5, 0.6, 0.7]
    assert not resumed.exists()


def test_a_trial_that_was_saved_at_its_end_completes_with_what_it_had(
    client: Client, study: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.write_text("the end")
    with pytest.raises(KeyboardInterrupt):
        train(
            client,
            study,
            reporting(0, 0.5),
            lambda trial: trial.save(state),
            failing(KeyboardInterrupt()),
        )
    with client.trial(study) as trial:
        for step in range(trial.first_step, 1):
            trial.report(step, 0.1)
    seen = client.trial(study, 0)
    assert (seen.state, seen.value) == ("completed", 0.5)


def test_a_checkpoint_names_its_step(client: Client, study: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("after step 3")

    def save(trial: LoopTrial) -> None:
        with pytest.raises(problems.Invalid, match="Nothing has been reported yet"):
            trial.save(state)
        trial.save(state, step=3)

    with pytest.raises(KeyboardInterrupt):
        train(client, study, save, failing(KeyboardInterrupt()))
    with client.trial(study) as trial:
        assert trial.first_step == 4
        trial.report(4, 0.5)


def test_a_checkpoint_is_a_file(client: Client, study: str, tmp_path: Path) -> None:
    with client.trial(study) as trial:
        trial.report(0, 0.5)
        with pytest.raises(problems.Invalid, match="make_archive"):
            trial.save(tmp_path)
        with pytest.raises(problems.Invalid, match="There is no file"):
            trial.save(tmp_path / "nothing")
        (tmp_path / "empty").touch()
        with pytest.raises(problems.Invalid, match="is empty"):
            trial.save(tmp_path / "empty")


def test_an_objective_that_is_not_finite_has_diverged(client: Client, study: str) -> None:
    with client.trial(study) as trial:
        assert not trial.report(0, accuracy=NAN, loss=2.0)
    seen = client.trial(study, 0)
    assert (seen.state, seen.error_kind) == ("failed", "diverged")
    assert seen.error_message == "accuracy was not finite at step 0."
    assert [point.value for point in seen.curve] == [None]
    assert seen.metrics == {0: {"loss": 2.0}}


MISTAKES: list[tuple[int, float | None, dict[str, float], str]] = [
    (1, 0.5, {"acuracy": 1.0}, "did you mean 'accuracy'"),
    (1, None, {"loss": 0.5}, r"as `trial.report\(step, accuracy="),
    (1, 0.5, {"accuracy": 0.5}, "is reported twice"),
    (0, 0.5, {}, "Step 0 is reported after step 0: steps rise"),
    (-1, 0.5, {}, "0 or more"),
    (cast(int, 1.5), 0.5, {}, "A step is a whole number, and not float"),
    (1, cast(float, "high"), {}, "as str, and not as a number"),
]


@pytest.mark.parametrize(("step", "value", "metrics", "told"), MISTAKES)
def test_a_wrong_report_is_told_in_words_and_stores_nothing(
    client: Client,
    study: str,
    step: int,
    value: float | None,
    metrics: dict[str, float],
    told: str,
) -> None:
    with client.trial(study) as trial:
        trial.report(0, 0.25)
        with pytest.raises(problems.Invalid, match=told):
            trial.report(step, value, **metrics)
    seen = client.trial(study, 0)
    assert (seen.state, seen.value, len(seen.curve)) == ("completed", 0.25, 1)


def test_a_loop_that_reports_nothing_has_failed(client: Client, study: str) -> None:
    with pytest.raises(problems.Invalid, match="reported nothing"), client.trial(study):
        pass
    assert client.trial(study, 0).state == "failed"


def test_a_lost_lease_is_told_at_the_next_report(client: Client, study: str) -> None:
    def lose(_: LoopTrial) -> None:
        client.release(spy.leases[0].lease_id, Release(reason="drain"))

    with (
        Spy(client.server) as spy,
        pytest.raises(problems.LeaseLost, match="no longer this process's"),
    ):
        train(spy, study, reporting(0, 0.5), lose, reporting(1, 0.6))
    seen = client.trial(study, 0)
    assert (seen.state, len(seen.curve)) == ("queued", 1)


def test_a_trial_that_is_over_takes_no_more(client: Client, study: str) -> None:
    with client.trial(study) as trial:
        trial.report(0, 0.5)
    with pytest.raises(problems.Invalid, match="has ended"):
        trial.report(1, 0.5)


def test_a_study_of_workers_has_no_trials_for_a_loop(client: Client, service: Running) -> None:
    name = service.create()
    with pytest.raises(problems.NotExternal), client.trial(name):
        pass


def test_a_loop_ends_each_trial_by_a_block(client: Client, study: str) -> None:
    trials = client.loop(study)
    next(trials)
    with pytest.raises(problems.Invalid, match="within `with trial:`"):
        next(trials)
    assert client.trial(study, 0).state == "queued"


def test_a_loop_that_is_left_early_gives_back_what_it_has_not_begun(
    client: Client, study: str
) -> None:
    for _ in client.loop(study):
        break
    seen: Trial = client.trial(study, 0)
    assert (seen.state, seen.crashes) == ("queued", 0)
