"""What the client promises whoever calls it, against a service played by a function."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import stamina
from pydantic import TypeAdapter

from tests.support.records import a_record
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.edits import BudgetEdit, StudyEdit
from trimtab.contract.leases import (
    Completed,
    Failed,
    LeaseRequest,
    Outcome,
    Pruned,
    Release,
    Report,
    Reports,
)
from trimtab.contract.pruners import MedianPruner
from trimtab.contract.search import Search
from trimtab.contract.studies import StudyDocument

Handler = Callable[[httpx2.Request], httpx2.Response]

DOCUMENT = StudyDocument.model_validate(
    {
        "name": "digits",
        "task": {"kind": "classification", "dataset": {"kind": "builtin", "name": "digits"}},
        "model": {"backbone": "glyphnet"},
        "space": {
            "learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
        },
        "budget": {"trials": 3},
    }
)

STUDY: dict[str, Any] = {
    "name": "digits",
    "state": "active",
    "document": DOCUMENT.model_dump(mode="json"),
    "created_at": "2026-11-01T12:00:00Z",
    "trials_created": 0,
    "progress": {},
}


@pytest.fixture(autouse=True)
def no_pause_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=5):
        yield


def client(handler: Handler, *, token: str | None = None) -> Client:
    return Client(
        "http://service.test", token, retry_for_s=10, transport=httpx2.MockTransport(handler)
    )


def answers(*responses: httpx2.Response | Exception) -> tuple[Handler, list[httpx2.Request]]:
    """A service that gives these answers in turn, and the requests that it saw."""
    remaining = list(responses)
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        response = remaining.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    return handle, seen


def problem(refusal: problems.Problem) -> httpx2.Response:
    document = refusal.document()
    return httpx2.Response(
        document.status,
        content=document.model_dump_json(),
        headers={"content-type": "application/problem+json"},
    )


def event(cursor: str, kind: str) -> str:
    data: dict[str, Any] = {
        "cursor": cursor,
        "at": "2026-11-01T12:00:00Z",
        "kind": kind,
        "body": {},
    }
    return f"id: {cursor}\ndata: {json.dumps(data)}\n\n"


def stream(*events: str) -> httpx2.Response:
    return httpx2.Response(
        200, headers={"content-type": "text/event-stream"}, content="".join(events)
    )


def test_a_study_is_created_with_the_document_and_a_key_of_its_own() -> None:
    handle, seen = answers(httpx2.Response(201, json=STUDY), httpx2.Response(201, json=STUDY))
    with client(handle) as service:
        assert service.create_study(DOCUMENT).name == "digits"
        service.create_study(DOCUMENT)
    assert (seen[0].method, seen[0].url.path) == ("POST", "/v1/studies")
    assert StudyDocument.model_validate_json(seen[0].content) == DOCUMENT
    assert seen[0].headers["idempotency-key"] != seen[1].headers["idempotency-key"]


@pytest.mark.parametrize(
    ("pruner", "sent"),
    [
        (
            "median",
            {"kind": "median", "startup_trials": 5, "warmup_epochs": None, "min_trials": 1},
        ),
        (
            MedianPruner(kind="median", warmup_epochs=2),
            {"kind": "median", "startup_trials": 5, "warmup_epochs": 2, "min_trials": 1},
        ),
        ({"kind": "none"}, {"kind": "none"}),
    ],
    ids=str,
)
def test_a_pruner_is_sent_in_the_long_form(pruner: Any, sent: dict[str, Any]) -> None:
    handle, seen = answers(httpx2.Response(201, json=STUDY))
    document = DOCUMENT.model_copy(update={"search": Search(pruner=pruner)})
    with client(handle) as service:
        service.create_study(document)
    assert json.loads(seen[0].content)["search"]["pruner"] == sent


def test_a_repeated_creation_keeps_its_key() -> None:
    handle, seen = answers(httpx2.ReadError("cut"), httpx2.Response(201, json=STUDY))
    client(handle).create_study(DOCUMENT)
    assert seen[0].headers["idempotency-key"] == seen[1].headers["idempotency-key"]


def test_the_token_travels_as_a_bearer_token() -> None:
    handle, seen = answers(httpx2.Response(200, json=STUDY))
    client(handle, token="s3cret").study("digits")
    assert seen[0].headers["authorization"] == "Bearer s3cret"


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_SERVER", "http://elsewhere.test:81/")
    monkeypatch.setenv("TRIMTAB_TOKEN", "s3cret")
    handle, seen = answers(httpx2.Response(200, json=STUDY))
    Client(transport=httpx2.MockTransport(handle)).study("digits")
    assert str(seen[0].url) == "http://elsewhere.test:81/v1/studies/digits"
    assert seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("token", ["s3cret\n", "ключ", "two words"])
def test_a_token_that_no_header_can_carry_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(problems.Unauthorized) as refusal:
        Client("http://service.test", token)
    assert token not in refusal.value.detail


@pytest.mark.parametrize(
    "server", ["service.test", "ftp://x", "http://", "http://x:99999", "::"]
)
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(problems.Unreachable, match="is not the address of a service"):
        Client(server)


def test_fields_that_a_newer_service_added_are_passed_over_at_any_depth() -> None:
    newer = {**STUDY, "colour": "red", "progress": {"running": 2, "dreaming": 1}}
    handle, _ = answers(httpx2.Response(200, json=newer))
    assert client(handle).study("digits").progress.running == 2


def test_a_refusal_comes_back_as_the_exception_that_the_service_raised() -> None:
    fault = problems.FieldError(
        pointer="/budget/trials", code="too_small", message="at least 1"
    )
    handle, seen = answers(problem(problems.Invalid(errors=[fault])))
    with pytest.raises(problems.Invalid) as refusal:
        client(handle).create_study(DOCUMENT)
    assert refusal.value.errors == (fault,)
    assert len(seen) == 1


def test_a_lost_lease_is_not_retried_and_names_its_state() -> None:
    handle, seen = answers(problem(problems.LeaseLost(state="queued")))
    with pytest.raises(problems.LeaseLost) as refusal:
        client(handle).heartbeat(uuid4())
    assert refusal.value.state == "queued"
    assert len(seen) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_overloaded_service_is_asked_again(status: int) -> None:
    handle, seen = answers(
        httpx2.Response(status, headers={"retry-after": "1"}), httpx2.Response(200, json=STUDY)
    )
    assert client(handle).study("digits").name == "digits"
    assert len(seen) == 2


def test_a_service_that_asks_for_more_patience_than_the_budget_is_believed_at_once() -> None:
    handle, seen = answers(httpx2.Response(503, headers={"retry-after": "3600"}))
    with pytest.raises(problems.Unavailable) as refusal:
        client(handle).study("digits")
    assert refusal.value.retry_after_s == 3600
    assert len(seen) == 1


def test_a_broken_connection_is_taken_up_again() -> None:
    handle, seen = answers(
        httpx2.ConnectError("refused"),
        httpx2.RemoteProtocolError("gone"),
        httpx2.Response(200, json=STUDY),
    )
    assert client(handle).study("digits").name == "digits"
    assert len(seen) == 3


def test_without_a_service_the_error_names_the_address_and_what_to_do() -> None:
    handle, seen = answers(httpx2.ConnectError("Connection refused"))
    service = Client(
        "http://service.test", retry_for_s=0, transport=httpx2.MockTransport(handle)
    )
    with pytest.raises(problems.Unreachable) as refusal:
        service.study("digits")
    for part in ("http://service.test", "Connection refused", "trimtab up", "TRIMTAB_SERVER"):
        assert part in refusal.value.detail
    assert len(seen) == 1


@pytest.mark.parametrize(
    "stranger",
    [
        httpx2.Response(200, text="<html>hello</html>"),
        httpx2.Response(200, json=["hello"]),
        httpx2.Response(302, headers={"location": "/login"}),
    ],
)
def test_another_program_at_the_address_is_recognised(stranger: httpx2.Response) -> None:
    handle, _ = answers(*[stranger] * 5)
    with pytest.raises(problems.Unreachable, match="not one of a trimtab service"):
        client(handle).study("digits")


def test_an_error_that_no_trimtab_service_wrote_still_has_its_class() -> None:
    handle, _ = answers(httpx2.Response(403, text="<html>no</html>"))
    with pytest.raises(problems.Forbidden, match="403"):
        client(handle).study("digits")


@pytest.mark.parametrize("name", ["", "..", "a/b", "Digits", "a?b", "x" * 64])
def test_a_name_that_no_study_can_have_never_reaches_the_wire(name: str) -> None:
    handle, seen = answers()
    with pytest.raises(problems.StudyNotFound):
        client(handle).study(name)
    assert not seen


def test_a_claim_without_work_is_empty_and_waits_as_long_as_it_asked_for() -> None:
    handle, seen = answers(httpx2.Response(204))
    request = LeaseRequest(worker_id=uuid4(), claim_id=uuid4(), wait_s=20.0)
    assert client(handle).claim(request).leases == ()
    assert seen[0].extensions["timeout"]["read"] == 50.0


@pytest.mark.parametrize(
    "outcome", [Completed(value=0.9), Pruned(), Failed(error="oom", retryable=True)]
)
def test_every_outcome_arrives_as_it_was_sent(outcome: Outcome) -> None:
    handle, seen = answers(httpx2.Response(200, json={"state": "completed"}))
    lease_id = uuid4()
    assert client(handle).settle(lease_id, outcome).state == "completed"
    assert (seen[0].method, seen[0].url.path) == ("PUT", f"/v1/leases/{lease_id}/outcome")
    arrived: Outcome = TypeAdapter[Any](Outcome).validate_json(seen[0].content)
    assert arrived == outcome


def test_a_report_is_told_the_verdict() -> None:
    handle, seen = answers(httpx2.Response(200, json={"verdict": "stop", "ttl_s": 60.0}))
    sent = Reports(reports=(Report(step=0, value=None),))
    assert client(handle).report(uuid4(), sent).verdict == "stop"
    assert Reports.model_validate_json(seen[0].content) == sent


def test_a_release_needs_no_answer() -> None:
    handle, seen = answers(httpx2.Response(204))
    client(handle).release(uuid4(), Release(reason="drain"))
    assert seen[0].url.path.endswith(":release")


def test_pages_are_asked_for_by_token_and_state() -> None:
    handle, seen = answers(httpx2.Response(200, json={"trials": []}))
    client(handle).trials("digits", page_size=5, page_token="abc", state="pruned")
    assert dict(seen[0].url.params) == {
        "page_size": "5",
        "page_token": "abc",
        "state": "pruned",
    }


def test_readiness_is_asked_once_and_never_raises() -> None:
    handle, seen = answers(
        httpx2.Response(200), httpx2.Response(503), httpx2.ConnectError("refused")
    )
    service = client(handle)
    assert [service.is_ready() for _ in range(3)] == [True, False, False]
    assert len(seen) == 3


def test_a_download_is_whole_or_absent(tmp_path: Path) -> None:
    content = b"weights" * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    handle, _ = answers(
        httpx2.Response(200, content=b"other"), httpx2.Response(200, content=content)
    )
    target = tmp_path / "new" / "model.safetensors"
    with pytest.raises(problems.Sha256Mismatch):
        client(handle).download(sha256, target)
    assert list(target.parent.iterdir()) == []
    assert client(handle).download(sha256, target).read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


def test_a_model_replaces_the_file_of_that_name(tmp_path: Path) -> None:
    target = tmp_path / "digits.safetensors"
    target.write_bytes(b"old")
    handle, seen = answers(httpx2.Response(200, content=b"new"))
    assert client(handle).download_model("digits", target).read_bytes() == b"new"
    assert seen[0].url.path == "/v1/studies/digits/model"


def test_the_validated_winner_is_asked_for_by_its_name(tmp_path: Path) -> None:
    handle, seen = answers(httpx2.Response(200, content=b"validated"))
    client(handle).download_model("digits", tmp_path / "model", which="validated")
    assert seen[0].url.path == "/v1/studies/digits/model"
    assert seen[0].url.params["which"] == "validated"


def test_the_answers_of_trials_are_read_from_a_number_on() -> None:
    lease_id = uuid4()
    outputs = {"form": "hits", "epochs": 1, "rows": 8, "columns": 1, "body": "eA=="}
    told = {"trials": [{"trial_number": 7, "value": 0.5, "outputs": outputs}], "next": 8}
    handle, seen = answers(httpx2.Response(200, json=told))
    page = client(handle).validation_outputs(lease_id, start=7)
    assert (page.trials[0].trial_number, page.next) == (7, 8)
    assert seen[0].url.path == f"/v1/leases/{lease_id}/validation-outputs"
    assert seen[0].url.params["from"] == "7"


def test_an_upload_sends_the_whole_file_again_after_a_cut(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_bytes(b"\x00\xff\n" * 700_000)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    handle, seen = answers(httpx2.WriteError("cut"), httpx2.Response(201))
    client(handle).upload(file, sha256)
    assert [request.content for request in seen] == [file.read_bytes()] * 2
    assert seen[1].headers["content-length"] == str(file.stat().st_size)
    assert seen[1].url.path == f"/v1/artifacts/{sha256}"


def test_events_end_with_the_study() -> None:
    handle, seen = answers(
        stream(event("1", "study_created"), event("2", "study_done"), event("3", "reported"))
    )
    assert [e.cursor for e in client(handle).events("digits")] == ["1", "2", "3"]
    assert "last-event-id" not in seen[0].headers


def test_events_go_on_behind_an_end_after_which_the_study_got_more_budget() -> None:
    handle, seen = answers(
        stream(event("1", "study_done"), event("2", "study_reopened")),
        httpx2.Response(200, json=STUDY),
        stream(event("3", "study_done")),
    )
    assert [e.cursor for e in client(handle).events("digits")] == ["1", "2", "3"]
    assert seen[2].headers["last-event-id"] == "2"


def test_an_edit_says_what_changes_and_nothing_else() -> None:
    handle, seen = answers(*(httpx2.Response(200, json=STUDY) for _ in range(2)))
    with client(handle) as service:
        assert service.edit_study("digits", trials=9, wall_time_s="none").name == "digits"
        service.edit_study("digits", priority=3, parallel=2)
    assert [(one.method, one.url.path) for one in seen] == [("PATCH", "/v1/studies/digits")] * 2
    said = [StudyEdit.model_validate_json(one.content) for one in seen]
    assert said == [
        StudyEdit(budget=BudgetEdit(trials=9, wall_time_s="none")),
        StudyEdit(budget=BudgetEdit(), priority=3, parallel=2),
    ]


def test_events_go_on_after_the_last_one_when_the_connection_ends() -> None:
    handle, seen = answers(
        stream(event("1", "study_created"), event("2", "trial_started")),
        httpx2.Response(200, json=STUDY),
        stream(": ping\n\n", event("3", "study_done")),
    )
    assert [e.cursor for e in client(handle).events("digits", after="0")] == ["1", "2", "3"]
    assert [r.headers.get("last-event-id") for r in seen] == ["0", None, "2"]


def test_following_a_study_that_has_ended_ends() -> None:
    handle, _ = answers(stream(), httpx2.Response(200, json={**STUDY, "state": "done"}))
    assert list(client(handle).events("digits", after="9")) == []


def test_a_kind_of_event_that_a_newer_service_has_is_passed_over() -> None:
    handle, _ = answers(stream(event("1", "study_dreamt"), event("2", "study_done")))
    assert [e.cursor for e in client(handle).events("digits")] == ["2"]


def test_events_of_an_unknown_study_are_refused() -> None:
    handle, _ = answers(problem(problems.StudyNotFound()))
    with pytest.raises(problems.StudyNotFound):
        list(client(handle).events("digits"))


def test_a_closed_client_says_so_at_once() -> None:
    handle, seen = answers()
    service = client(handle)
    service.close()
    with pytest.raises(problems.Unreachable, match="closed"):
        service.study("digits")
    with pytest.raises(problems.Unreachable, match="closed"):
        list(service.events("digits"))
    assert not seen


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("socks5://me:s3cret@proxy:1080", "a SOCKS proxy needs the Python package `socksio`"),
        ("ftp://me:s3cret@proxy:21", "its address does not begin with http://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, proxy: str, why: str
) -> None:
    for name in ("ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed
    with pytest.raises(problems.Unreachable) as told:
        Client("http://service.test")
    assert why in told.value.detail
    assert "s3cret" not in told.value.detail
    # No proxy reaches the loopback of this machine, so none is asked there.
    Client("http://127.0.0.1:1").close()


def test_a_rebase_that_is_repeated_carries_the_same_key_and_another_one_its_own() -> None:
    away = problem(problems.Unavailable())
    handle, seen = answers(away, *(httpx2.Response(200, json=STUDY) for _ in range(2)))
    with client(handle) as service:
        assert service.rebase("digits").name == "digits"
        service.rebase("digits")
    first, repeat, another = (request.headers["idempotency-key"] for request in seen)
    assert first == repeat != another
    assert {(one.method, one.url.path) for one in seen} == {
        ("POST", "/v1/studies/digits:rebase")
    }


def test_a_trial_that_is_added_again_after_a_failure_carries_the_same_key() -> None:
    away = problem(problems.Unavailable())
    trial: dict[str, object] = {
        "number": 1,
        "state": "queued",
        "hyperparameters": {},
        "objective": "accuracy",
        "created_at": STUDY["created_at"],
    }
    handle, seen = answers(away, *(httpx2.Response(201, json=trial) for _ in range(4)))
    with client(handle) as service:
        assert service.enqueue_trial("digits", {"learning_rate": 1e-3}).number == 1
        service.enqueue_trial("digits", {})
        assert service.stop_trial("digits", 1).state == "queued"
        assert service.retry_trial("digits", 1).state == "queued"
    first, repeat, another = (one.headers["idempotency-key"] for one in seen[:3])
    assert first == repeat != another
    assert json.loads(seen[1].content) == {"values": {"learning_rate": 1e-3}}
    assert [(one.method, one.url.path) for one in seen[3:]] == [
        ("POST", "/v1/studies/digits/trials/1:stop"),
        ("POST", "/v1/studies/digits/trials/1:retry"),
    ]


def test_other_data_than_the_studys_are_a_lease_that_is_lost() -> None:
    handle, _ = answers(problem(problems.DataChanged("61 pictures instead of 60")))
    with client(handle) as service, pytest.raises(problems.DataChanged) as refused:
        service.record(UUID(int=1), a_record())
    assert isinstance(refused.value, problems.LeaseLost)
    assert "61 pictures" in refused.value.detail
