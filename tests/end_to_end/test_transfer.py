"""A second study begins with the best of the first one, through every room and with real training."""

from pathlib import Path

from tests.support.documents import a_study_document
from tests.support.workers import a_worker, server_of
from trimtab.cli import explain
from trimtab.client import Client
from trimtab.contract.studies import StudyDocument


def a_study(name: str, trials: int, transfer: str) -> StudyDocument:
    return a_study_document(
        name=name,
        space={"learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}},
        fixed={"epochs": 1, "batch_size": 64},
        search={"sampler": "random", "pruner": "none", "transfer": transfer},
        budget={"trials": trials},
        lease_ttl_s=10,
    )


def test_the_second_study_begins_with_the_best_of_the_first(
    client: Client, tmp_path: Path
) -> None:
    with a_worker(
        server_of(client), tmp_path / "cache", "--device", "cpu", runner="worker.runner"
    ):
        for name, trials, transfer in (("first", 3, "none"), ("second", 6, "auto")):
            client.create_study(a_study(name, trials, transfer))
            assert [event.kind for event in client.events(name)].count(
                "trial_completed"
            ) == trials
    first, second = client.study("first"), client.study("second")
    assert first.best is not None
    assert first.data is not None
    assert first.data.features is not None
    assert (first.data.input_size, len(first.data.features.values)) == (8, 16)
    told = explain.explain(client, "second")
    assert told.transferred is not None
    (source,) = told.transferred
    assert (source.study, source.distance, source.points) == ("first", 0.0, 2)
    assert source.trials == (1, 2)
    tried = client.trial("second", 1)
    assert tried.hyperparameters == first.best.hyperparameters
    assert tried.proposed_by == "study:first"
    assert second.state == "done"
