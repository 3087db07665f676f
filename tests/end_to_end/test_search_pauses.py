"""A search that pauses trials, through every room: a real worker takes them up from their checkpoints."""

from pathlib import Path

from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.client import Client

EPOCHS, TRIALS = 9, 4
DOCUMENT = a_study_document(
    name="digits",
    space={"learning_rate": {"kind": "float", "low": 1e-4, "high": 5e-3, "log": True}},
    fixed={"epochs": EPOCHS, "batch_size": 64},
    search={"sampler": "random", "pruner": {"kind": "asha", "first_rung": 1, "eta": 3}},
    budget={"trials": TRIALS},
    finish={"refit": False},
    lease_ttl_s=10,
)


def test_a_study_that_pauses_trials_trains_no_epoch_twice_and_ends_with_a_model(
    client: Client, tmp_path: Path
) -> None:
    client.create_study(DOCUMENT)
    with a_worker(
        server_of(client), tmp_path / "cache", "--device", "cpu", runner="worker.runner"
    ):
        events = list(client.events("digits"))
    study = client.study("digits")
    assert (study.state, study.problem, study.ended_by) == ("done", None, "trials")
    assert study.final is not None
    trials = client.trials("digits").trials
    lengths = sorted(len(trial.curve) for trial in trials)
    # All trained to the first rung, one of the first three to the second, and the best of all to its end.
    assert lengths in ([1, 1, 1, EPOCHS], [1, 1, 3, EPOCHS])
    reported = [
        (event.trial_number, event.body["step"]) for event in events if event.kind == "reported"
    ]
    assert len(reported) == len(set(reported)) == sum(lengths)
    kinds = [event.kind for event in events]
    assert kinds.count("trial_started") == TRIALS
    assert kinds.count("trial_paused") >= TRIALS - 1
    assert kinds.count("trial_resumed") >= 1
    assert kinds.count("trial_pruned") == TRIALS - 1
    (best,) = [trial for trial in trials if trial.state == "completed"]
    attempts = client.trial("digits", best.number).attempts
    assert [one.outcome for one in attempts] == ["paused"] * (len(attempts) - 1) + ["completed"]
