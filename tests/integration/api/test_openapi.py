"""The OpenAPI document tells the truth, and the service keeps to it."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.support.app import Running, refused

SUCCESS = {
    ("get", "/livez"): {"204"},
    ("get", "/readyz"): {"204"},
    ("post", "/v1/studies"): {"201"},
    ("delete", "/v1/studies/{study}"): {"204"},
    ("post", "/v1/studies/{study}/trials"): {"201"},
    ("delete", "/v1/datasets/{dataset}"): {"204"},
    ("post", "/v1/imports"): {"201"},
    ("post", "/v1/workers"): {"201"},
    ("put", "/v1/artifacts/{sha256}"): {"201"},
    ("post", "/v1/leases"): {"200", "204"},
    ("post", "/v1/leases/{lease}/checkpoints"): {"204"},
    ("post", "/v1/leases/{lease}/memory"): {"204"},
    ("put", "/v1/leases/{lease}/record"): {"204"},
    ("post", "/v1/leases/{lease}:release"): {"204"},
}
PROBLEMS = {"400", "401", "404", "405", "409", "413", "415", "422", "500", "503"}
HEALTH = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
CHECKS: list[Any] = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


def operations(service: Running) -> dict[tuple[str, str], dict[str, Any]]:
    paths = service.call("GET", "/openapi.json").json()["paths"]
    return {
        (method, path): told for path, item in paths.items() for method, told in item.items()
    }


def test_every_operation_declares_what_it_may_answer(shared: Running) -> None:
    told = operations(shared)
    assert set(SUCCESS) <= set(told)
    for operation, declared in told.items():
        answers = set(declared["responses"])
        assert answers >= PROBLEMS, operation
        good = {status for status in answers if status.startswith("2")}
        assert good == SUCCESS.get(operation, {"200"}), operation


def test_every_problem_is_declared_as_one(shared: Running) -> None:
    for operation, declared in operations(shared).items():
        for status, answer in declared["responses"].items():
            if not status.startswith("2"):
                assert list(answer["content"]) == ["application/problem+json"], operation
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema["$ref"].endswith("/ProblemDocument")


def test_every_operation_has_a_name_of_its_own_and_a_summary(shared: Running) -> None:
    told = operations(shared).values()
    names = [operation["operationId"] for operation in told]
    assert len(set(names)) == len(names)
    assert all(operation.get("description") for operation in told)


def test_every_address_refuses_other_methods_and_names_its_own(shared: Running) -> None:
    by_path: dict[str, set[str]] = {}
    for method, path in operations(shared):
        by_path.setdefault(path, set()).add(method.upper())
    for path, methods in by_path.items():
        # An address of a verb is one of its noun, too, to a router: GET /v1/studies/{study} takes `x:pause`.
        if ":" in path:
            continue
        address = path.replace("{number}", "0").replace("{sha256}", "0" * 64)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"} - methods:
            answer = shared.call(method, address.replace("{", "").replace("}", ""))
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == methods, (method, path)
            if method != "HEAD":
                refused(answer, 405, "method-not-allowed")


@pytest.mark.slow
def test_no_generated_request_breaks_the_service(service: Running) -> None:
    """Schemathesis makes requests from the document, a part of them for things that exist."""
    lease = service.leased(name="known")
    known = {"study": "known", "lease": lease["lease_id"], "number": "0", "sha256": "0" * 64}
    schema: Any = schemathesis.openapi.from_url(f"{service.url}/openapi.json")

    @settings(max_examples=2000, deadline=None, suppress_health_check=HEALTH)
    @given(case=schema.exclude(path_regex="/events$").as_strategy(), is_known=booleans())
    def walk(case: Any, is_known: bool) -> None:
        if is_known and case.path_parameters:
            case.path_parameters |= {
                name: value for name, value in known.items() if name in case.path_parameters
            }
        case.call_and_validate(checks=CHECKS)

    walk()
