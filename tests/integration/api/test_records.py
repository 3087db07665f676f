"""What workers found when they began, over REST."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.app import Running, refused
from tests.support.records import a_record


def _put(service: Running, lease_id: object, **changes: Any) -> Any:
    record = json.loads(a_record().model_dump_json()) | changes
    return service.call("PUT", f"/v1/leases/{lease_id}/record", record)


def test_a_record_is_kept_with_its_trial_and_the_last_one_counts(shared: Running) -> None:
    lease = shared.leased()
    assert _put(shared, lease["lease_id"], labels_used=5).status_code == 204
    assert _put(shared, lease["lease_id"]).status_code == 204
    trial = shared.call("GET", f"/v1/studies/{lease['study']}/trials/0").json()
    assert trial["record"] == json.loads(a_record().model_dump_json())


def test_a_list_of_trials_is_without_records(shared: Running) -> None:
    lease = shared.leased()
    _put(shared, lease["lease_id"])
    (trial,) = shared.call("GET", f"/v1/studies/{lease['study']}/trials").json()["trials"]
    assert trial["record"] is None


def test_a_record_of_no_lease_of_ours_is_refused(shared: Running) -> None:
    refused(_put(shared, uuid4()), 404, "lease-not-found")
    lease = shared.leased()
    shared.call("POST", f"/v1/leases/{lease['lease_id']}:release", {"reason": "drain"})
    refused(_put(shared, lease["lease_id"], labels_used=5), 409, "lease-lost")
    trial = shared.call("GET", f"/v1/studies/{lease['study']}/trials/0").json()
    assert trial["record"]["labels_used"] == a_record().labels_used


@pytest.mark.parametrize(
    "change",
    [
        {"data_sha256": "x"},
        {"labels_used": -1},
        {"pictures": {"attic": 1}},
        {"surprise": 1},
        {"notes": ["n"] * 21},
    ],
)
def test_a_record_that_is_none_is_refused(shared: Running, change: dict[str, Any]) -> None:
    answer = _put(shared, uuid4(), **change)
    assert answer.status_code == 422
