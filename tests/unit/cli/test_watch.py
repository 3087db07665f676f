"""Following a study: snapshots in step with its events, and an end in every case."""

import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.unit.cli.played_service import AT, STUDY, TRIAL, Played
from trimtab.cli import watch
from trimtab.client import Client
from trimtab.contract import problems


def client(service: Played) -> Client:
    return Client("http://service.test", transport=httpx2.MockTransport(service.handle))


class Silent(httpx2.SyncByteStream):
    """Says nothing until it is released."""

    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def __iter__(self) -> Iterator[bytes]:
        self._released.wait(30)
        yield b": the end\n\n"


def test_a_snapshot_holds_the_study_its_touched_trials_and_what_happened() -> None:
    service = Played()
    service.answer("GET /v1/studies/digits", STUDY)
    service.answer("GET /v1/studies/digits/trials/3", TRIAL)
    service.stream("digits", ("reported", 3), ("trial_completed", 3), ("study_done", None))
    snapshots = list(watch.follow(client(service), "digits"))
    kinds = [event.kind for each in snapshots for event in each.events]
    assert kinds == ["reported", "trial_completed", "study_done"]
    assert snapshots[-1].trials[3].value == 0.91
    assert service.seen.count("GET /v1/studies/digits/trials/3") <= len(snapshots)


def test_of_many_trials_only_the_last_are_read() -> None:
    service = Played()
    service.answer("GET /v1/studies/digits", STUDY)
    count = watch.MOST_READ + 20
    for number in range(count):
        line = f"GET /v1/studies/digits/trials/{number}"
        service.answer(line, {**TRIAL, "number": number})
    events = [("trial_completed", number) for number in range(count)]
    service.stream("digits", *events, ("study_done", None))
    *_, last = watch.follow(client(service), "digits")
    assert max(last.trials) == count - 1
    assert len(last.trials) <= watch.MOST_READ + watch.SHOWN_TRIALS


def test_a_refusal_ends_the_watch() -> None:
    service = Played()
    service.answer("GET /v1/studies/digits", STUDY)
    service.refuse("GET /v1/studies/digits/events", problems.Forbidden())
    with pytest.raises(problems.Forbidden):
        list(watch.follow(client(service), "digits"))


def test_a_check_that_raises_ends_even_a_silent_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CHECK_S", 0.01)
    released = threading.Event()

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/events"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, stream=Silent(released), headers=headers)
        return httpx2.Response(200, json=STUDY)

    checks = iter([None, None, problems.Unavailable("the service ended")])

    def check() -> None:
        if problem := next(checks):
            raise problem

    silent = Client("http://service.test", transport=httpx2.MockTransport(handle))
    with pytest.raises(problems.Unavailable, match="the service ended"):
        list(watch.follow(silent, "digits", check=check))
    released.set()


BLOCKED = {
    **STUDY,
    "state": "active",
    "best": None,
    "final": None,
    "blocked": True,
    "problem": "No worker can serve the study.",
    "set_aside": [{"worker": "cpu-0", "problem": "no such folder", "at": AT}],
}


def test_a_blocked_study_ends_the_watch_with_what_blocks_it() -> None:
    service = Played()
    service.answer("GET /v1/studies/digits", BLOCKED)
    service.answer("GET /v1/studies/digits/trials/0", TRIAL)
    service.stream("digits", ("trial_started", 0), ("worker_set_aside", None))
    *_, last = watch.follow(client(service), "digits")
    assert last.study.problem == "No worker can serve the study."


def _spent(checks: Iterator[int]) -> None:
    """Take one of them; a watch that never ends runs out of them."""
    next(checks)


def test_a_study_that_is_blocked_without_an_event_is_seen_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "CHECK_S", 0.01)
    released = threading.Event()
    answers = iter([{**BLOCKED, "blocked": False}] * 3)

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/events"):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, stream=Silent(released), headers=headers)
        return httpx2.Response(200, json=next(answers, BLOCKED))

    checks = iter(range(200))
    silent = Client("http://service.test", transport=httpx2.MockTransport(handle))
    (last,) = watch.follow(silent, "digits", check=lambda: _spent(checks))
    assert last.study.blocked
    released.set()
