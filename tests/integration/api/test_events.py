"""The live stream of a study's events: server-sent events (WHATWG HTML section 9.2)."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.support.app import Running
from tests.support.until import until


@contextmanager
def streamed(service: Running, name: str, last: str | None = None) -> Generator[Iterator[Any]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with service.http.stream("GET", f"/v1/studies/{name}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (message for message in httpx2.EventSource(answer) if message.data)


def told(service: Running, name: str, last: str | None = None) -> list[tuple[str, str]]:
    """(cursor, kind) of every event until the stream ends."""
    with streamed(service, name, last) as messages:
        return [(message.id, message.json()["kind"]) for message in messages]


def a_finished_study(service: Running) -> str:
    lease = service.leased()
    base = f"/v1/leases/{lease['lease_id']}"
    service.call(
        "POST",
        f"{base}/reports",
        {"reports": [{"step": 0, "value": 0.5}, {"step": 1, "value": 0.6}]},
    )
    service.call("PUT", f"{base}/outcome", {"kind": "failed", "error": "diverged"})
    return lease["study"]


BEGINNING = ["study_created", "trial_started", "probe_passed"]
END = ["trial_failed", "study_done"]


def test_a_finished_study_tells_its_story_in_order_and_ends(service: Running) -> None:
    events = told(service, a_finished_study(service))
    assert [kind for _, kind in events] == [*BEGINNING, "reported", "reported", *END]
    cursors = [tuple(int(part) for part in cursor.split("-")) for cursor, _ in events]
    assert cursors == sorted(set(cursors))


def test_a_stream_resumes_behind_any_event(service: Running) -> None:
    name = a_finished_study(service)
    events = told(service, name)
    for index, (cursor, _) in enumerate(events):
        assert told(service, name, cursor) == events[index + 1 :]


def test_an_event_says_what_happened_to_which_attempt(service: Running) -> None:
    with streamed(service, a_finished_study(service)) as messages:
        event = next(m.json() for m in messages if m.json()["kind"] == "reported")
    assert (event["trial_number"], event["fence"]) == (0, 1)
    assert event["body"] == {"step": 0, "value": 0.5, "verdict": "continue"}


def test_a_watcher_sees_events_as_they_happen_and_the_end(service: Running) -> None:
    lease = service.leased()
    name = lease["study"]
    seen: list[str] = []

    def watch() -> None:
        with streamed(service, name) as messages:
            seen.extend(message.json()["kind"] for message in messages)

    with streamed(service, name) as messages:
        assert [next(messages).json()["kind"] for _ in range(3)] == BEGINNING
        service.call(
            "PUT", f"/v1/leases/{lease['lease_id']}/outcome", {"kind": "failed", "error": "oom"}
        )
        assert [message.json()["kind"] for message in messages] == END
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    until(lambda: not watcher.is_alive())
    assert seen == [*BEGINNING, *END]


def test_a_cancelled_study_ends_its_stream(service: Running) -> None:
    name = service.create()
    with streamed(service, name) as messages:
        assert next(messages).json()["kind"] == "study_created"
        service.call("POST", f"/v1/studies/{name}:cancel")
        assert [message.json()["kind"] for message in messages] == ["study_cancelled"]


def test_a_deleted_study_ends_its_stream(service: Running) -> None:
    name = service.create()
    with streamed(service, name) as messages:
        next(messages)
        service.call("DELETE", f"/v1/studies/{name}")
        service.create(name=name)
        assert list(messages) == []


def test_an_open_stream_holds_no_shutdown(service: Running) -> None:
    name = service.create()
    with streamed(service, name) as messages:
        next(messages)
