"""Optuna Dashboard on a study with two objectives and a constraint: it has all that its plots take."""

from collections.abc import Callable
from pathlib import Path

from tests.support.app import a_service


def test_the_dashboard_has_both_values_and_tells_what_is_feasible(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    with a_service(new_database(), tmp_path) as service:
        lease = service.leased(
            name="both",
            search={"sampler": "random", "pruner": "none"},
            objectives=[{"metric": "accuracy"}, {"metric": "latency_ms"}],
            constraints=[{"metric": "parameters", "max": 1000}],
        )
        outcome = {
            "kind": "completed",
            "value": 0.75,
            "measured": {"accuracy": 0.75, "latency_ms": 4.0, "parameters": 1500.0},
        }
        answer = service.call("PUT", f"/v1/leases/{lease['lease_id']}/outcome", outcome)
        assert answer.json() == {"state": "completed"}
        (summary,) = service.call("GET", "/api/studies").json()["study_summaries"]
        study = service.call("GET", f"/api/studies/{summary['study_id']}").json()
        front = service.call("GET", "/v1/studies/both/pareto").json()
    assert study["directions"] == ["maximize", "minimize"]
    (trial,) = study["trials"]
    assert (trial["values"], trial["constraints"]) == ([0.75, 4.0], [0.5])
    assert {one["key"] for one in trial["user_attrs"]} >= {"parameters", "latency_ms"}
    assert front["trials"] == []
