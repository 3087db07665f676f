"""Idempotency-Key: a repeated creation has one effect and one answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.app import Running, refused
from tests.support.documents import a_document


def test_a_repeat_under_its_key_is_answered_as_the_first_was(shared: Running) -> None:
    key = {"Idempotency-Key": "repeat"}
    document = a_document(name="repeated", budget={"trials": 3, "wall_time_s": 1e9})
    first = shared.call("POST", "/v1/studies", document, headers=key)
    assert first.status_code == 201
    shared.call("POST", "/v1/studies/repeated:pause")
    again = shared.call("POST", "/v1/studies", document, headers=key)
    assert (again.status_code, again.headers["location"]) == (201, "/v1/studies/repeated")
    assert again.json() == first.json()


def test_a_repeat_with_its_fields_in_another_order_is_the_same_request(shared: Running) -> None:
    key = {"Idempotency-Key": "order"}
    document = a_document(name="ordered")
    shared.call("POST", "/v1/studies", document, headers=key)
    backwards = dict(reversed(document.items()))
    assert shared.call("POST", "/v1/studies", backwards, headers=key).status_code == 201


def test_a_key_stands_for_one_request(shared: Running) -> None:
    key = {"Idempotency-Key": "one"}
    shared.call("POST", "/v1/studies", a_document(name="one-a"), headers=key)
    answer = shared.call("POST", "/v1/studies", a_document(name="one-b"), headers=key)
    refused(answer, 422, "idempotency-key-reused")
    assert shared.call("GET", "/v1/studies/one-b").status_code == 404


def test_a_key_of_a_refused_request_is_free(shared: Running) -> None:
    key = {"Idempotency-Key": "free"}
    shared.create(name="taken")
    refused(
        shared.call("POST", "/v1/studies", a_document(name="taken"), headers=key),
        409,
        "study-exists",
    )
    answer = shared.call("POST", "/v1/studies", a_document(name="untaken"), headers=key)
    assert answer.status_code == 201


def test_a_repeat_without_a_key_is_refused_by_its_name(shared: Running) -> None:
    shared.create(name="keyless")
    answer = shared.call("POST", "/v1/studies", a_document(name="keyless"))
    assert "keyless" in refused(answer, 409, "study-exists")["detail"]


def test_the_same_request_at_the_same_moment_has_one_effect(shared: Running) -> None:
    for number in range(5):
        document = a_document(name=f"twin-{number}")
        answers = at_once(shared, [document] * 6, {"Idempotency-Key": f"twin-{number}"})
        assert {status for status, _ in answers} == {201}
        assert all(body == answers[0][1] for _, body in answers)


def test_of_two_studies_of_one_name_at_the_same_moment_one_is_made(shared: Running) -> None:
    document = a_document(name="race")
    answers = at_once(shared, [document] * 6, {})
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409, 409]


def test_two_requests_under_one_key_at_the_same_moment_do_not_both_count(
    shared: Running,
) -> None:
    documents = [a_document(name=f"rival-{number}") for number in range(4)]
    answers = at_once(shared, documents, {"Idempotency-Key": "rivals"})
    assert sorted(status for status, _ in answers) == [201, 422, 422, 422]


def at_once(
    service: Running, documents: list[dict[str, Any]], headers: dict[str, str]
) -> list[tuple[int, Any]]:
    barrier = threading.Barrier(len(documents))

    def send(document: dict[str, Any]) -> tuple[int, Any]:
        barrier.wait(30)
        answer = service.call("POST", "/v1/studies", document, headers=headers)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(len(documents)) as pool:
        return list(pool.map(send, documents))
