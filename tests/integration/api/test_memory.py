"""What trainings took of their devices' memory, over REST."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.app import Running, refused

FINDING: dict[str, Any] = {
    "device": "NVIDIA A100",
    "memory_bytes": 42_000_000_000,
    "backbone": "resnet50",
    "input_size": 224,
    "precision": "bfloat16",
    "frozen_stages": 0,
    "batch_size": 256,
    "micro_batch_size": 64,
    "peak_bytes": 39_000_000_000,
}


def tell(service: Running, lease: dict[str, Any], **changes: Any) -> None:
    answer = service.call(
        "POST", f"/v1/leases/{lease['lease_id']}/memory", {**FINDING, **changes}
    )
    assert answer.status_code == 204, answer.text


def known(service: Running, backbone: str = "resnet50") -> list[dict[str, Any]]:
    answer = service.call("GET", f"/v1/memory?backbone={backbone}")
    assert answer.status_code == 200, answer.text
    return answer.json()["findings"]


def test_a_finding_is_remembered_for_its_backbone(service: Running) -> None:
    assert known(service) == []
    tell(service, service.leased(name="finder"))
    assert known(service) == [FINDING]
    assert known(service, "resnet18") == []


def test_of_two_findings_about_the_same_the_smaller_portion_is_kept(service: Running) -> None:
    lease = service.leased(name="finder")
    tell(service, lease)
    tell(service, lease, micro_batch_size=16, peak_bytes=1)
    tell(service, lease, micro_batch_size=None)
    (found,) = known(service)
    assert (found["micro_batch_size"], found["peak_bytes"]) == (16, FINDING["peak_bytes"])


def test_findings_outlive_their_study(service: Running) -> None:
    lease = service.leased(name="gone")
    tell(service, lease)
    service.call("PUT", f"/v1/leases/{lease['lease_id']}/outcome", {"kind": "pruned"})
    service.call("POST", "/v1/studies/gone:cancel")
    assert service.call("DELETE", "/v1/studies/gone").status_code == 204
    assert known(service) == [FINDING]


def test_only_the_holder_of_a_lease_is_believed(service: Running) -> None:
    path = f"/v1/leases/{uuid4()}/memory"
    refused(service.call("POST", path, FINDING), 404, "lease-not-found")
    lease = service.leased(name="ended")
    service.call("PUT", f"/v1/leases/{lease['lease_id']}/outcome", {"kind": "pruned"})
    path = f"/v1/leases/{lease['lease_id']}/memory"
    refused(service.call("POST", path, FINDING), 409, "lease-lost")


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"device": ""}, {"price": 3}])
def test_a_finding_that_makes_no_sense_is_refused(
    shared: Running, change: dict[str, Any]
) -> None:
    answer = shared.call("POST", f"/v1/leases/{uuid4()}/memory", {**FINDING, **change})
    assert answer.status_code == 422
