"""Trials that train together: real service process, real Postgres, real worker, heads on real frozen features."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client
from trimtab.contract.events import Event
from trimtab.contract.studies import StudyDocument

TRIALS = 6


def a_study(epochs: int) -> StudyDocument:
    return a_study_document(
        name="probes",
        space={
            "learning_rate": {"kind": "choices", "choices": [0.001, 0.01, 0.1]},
            "batch_size": {"kind": "choices", "choices": [32, 64]},
        },
        fixed={"epochs": epochs, "frozen_stages": 1000},
        search={"sampler": "grid", "pruner": "none"},
        budget={"trials": TRIALS},
        lease_ttl_s=20,
    )


def running_after(events: Iterator[Event]) -> Iterator[tuple[Event, set[int]]]:
    """Each event, and the numbers of the trials that run after it."""
    running: set[int] = set()
    for event in events:
        number = event.trial_number
        if number is not None and event.kind in ("trial_started", "trial_resumed"):
            running.add(number)
        elif number is not None and event.kind.startswith("trial_"):
            running.discard(number)
        yield event, running


def studied(
    client: Client, cache: Path, together: int, runner: str = "worker.runner"
) -> tuple[int, list[Any]]:
    """How many trials ran at once at most, and what each measured."""
    client.create_study(a_study(epochs=30))
    options = ("--device", "cpu", "--together", str(together))
    with a_worker(server_of(client), cache, *options, runner=runner):
        most = max(len(running) for _, running in running_after(client.events("probes")))
    assert client.study("probes").final is not None
    told = [
        (trial.hyperparameters, [(one.step, one.value) for one in trial.curve])
        for trial in client.trials("probes", state="completed").trials
    ]
    client.delete("probes")
    return most, told


def test_trials_of_a_study_of_probes_train_together_and_learn_what_they_learn_alone(
    client: Client, tmp_path: Path
) -> None:
    one_by_one, alone = studied(client, tmp_path, 1)
    assert len(alone) == TRIALS
    # In one computation where this CPU's products allow it, and one after the other where they do not.
    for runner in ("worker.runner", "tests.support.runner_in_turn"):
        at_once, together = studied(client, tmp_path, 4, runner)
        assert at_once > 1 == one_by_one
        assert together == alone


def test_a_training_process_killed_with_all_its_trials_costs_none_of_them(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(a_study(epochs=150))
    events = running_after(client.events("probes"))
    options = ("--device", "cpu", "--together", "3")
    with a_worker(server_of(client), tmp_path, *options, runner="worker.runner") as worker:
        fallen = next(set(running) for _, running in events if len(running) == 3)
        os.kill(worker.runner_pid(), signal.SIGKILL)
        later = [len(running) for _, running in events]
    trials = client.trials("probes").trials
    assert {trial.state for trial in trials} == {"completed"}
    assert len({trial.number for trial in trials if trial.crashes} & fallen) > 1
    assert later[-1] == 0
