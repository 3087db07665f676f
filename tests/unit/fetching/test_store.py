"""What is at an address is fetched once, as it is now, and whole or not at all."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.data_server import DataServer, tar_of
from tests.support.until import until
from worker.fetching import one_fetch
from worker.fetching.errors import (
    Abandoned,
    AddressDenied,
    ArchiveUnreadable,
    FetchError,
    NoRights,
    NotThere,
    TooLarge,
    Unanswered,
)
from worker.fetching.store import Store

Stores = Callable[..., Store]
TABLE = b"text,label\ngood,1\nbad,0\n"


def on(_: float) -> bool:
    return True


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_is_fetched_once_for_all_processes_and_told_by_its_hash(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = TABLE
    first = a_store().fetch(f"{web.url}/a.csv?key=secret", on)
    again = a_store().fetch(f"{web.url}/a.csv?key=secret", on)
    assert content(first.folder) == {"data": TABLE}
    assert again.folder == first.folder
    assert first.fetched.address == f"{web.url}/a.csv"
    assert (first.fetched.bytes, first.fetched.sha256) == (len(TABLE), first.folder.name)
    assert [status for status, _ in web.asked] == [200, 304]


def test_a_process_does_not_ask_again_for_a_while(web: DataServer, a_store: Stores) -> None:
    web.files["/a.csv"] = TABLE
    store, now = a_store(), [0.0]
    store.clock = lambda: now[0]
    for seconds, answers in ((0, 1), (59, 1), (61, 2)):
        now[0] = seconds
        store.fetch(f"{web.url}/a.csv", on)
        assert len(web.asked) == answers


def test_what_has_changed_is_fetched_again_and_what_was_stays(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = TABLE
    before = a_store().fetch(f"{web.url}/a.csv", on)
    web.files["/a.csv"] = TABLE + b"new,1\n"
    after = a_store().fetch(f"{web.url}/a.csv", on)
    assert content(before.folder) == {"data": TABLE}
    assert content(after.folder) == {"data": TABLE + b"new,1\n"}
    assert after.fetched.version != before.fetched.version


def test_a_transfer_that_breaks_off_goes_on_where_it_was(
    web: DataServer, a_store: Stores
) -> None:
    body = bytes(range(256)) * 40
    web.files["/a.csv"] = body
    web.breaks_after = [4000, 3000]
    at_hand = a_store().fetch(f"{web.url}/a.csv", on)
    assert content(at_hand.folder) == {"data": body}
    assert web.asked == [(200, 4000), (206, 3000), (206, len(body) - 7000)]


def test_what_has_arrived_of_an_older_version_is_not_gone_on_with(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = b"old" * 3000
    web.breaks_after = [4000]
    waits: list[float] = []

    def publish(seconds: float) -> bool:
        if seconds:
            waits.append(seconds)
            web.files["/a.csv"] = b"new" * 1000
        return True

    at_hand = a_store().fetch(f"{web.url}/a.csv", publish)
    assert content(at_hand.folder) == {"data": b"new" * 1000}
    assert waits == [0.5]


def test_a_fetch_is_left_when_its_trial_ends_and_gone_on_with_by_the_next(
    web: DataServer, a_store: Stores
) -> None:
    body = b"row\n" * (1 << 19)
    web.files["/a.csv"] = body
    asked: list[float] = []

    def leave_after_one(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) < 2

    with pytest.raises(Abandoned):
        a_store().fetch(f"{web.url}/a.csv", leave_after_one)
    assert content(a_store().fetch(f"{web.url}/a.csv", on).folder) == {"data": body}
    assert web.asked[1][0] == 206


def test_of_two_workers_one_fetches_and_the_other_waits(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = TABLE
    web.open.clear()
    waiting = threading.Event()

    def wait(seconds: float) -> bool:
        waiting.set()
        return True

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(a_store().fetch, f"{web.url}/a.csv", on)
        until(lambda: len(web.asked) == 1)
        second = pool.submit(a_store().fetch, f"{web.url}/a.csv", wait)
        assert waiting.wait(30)
        assert not first.done()
        web.open.set()
        assert first.result(30).folder == second.result(30).folder
    assert [status for status, _ in web.asked] == [200, 304]


def test_who_waits_for_another_leaves_when_its_own_trial_ends(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = TABLE
    web.open.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(a_store().fetch, f"{web.url}/a.csv", on)
        until(lambda: len(web.asked) == 1)
        with pytest.raises(Abandoned):
            a_store().fetch(f"{web.url}/a.csv", lambda _: False)
        web.open.set()
        first.result(30)


def test_what_this_machine_has_is_used_while_nobody_answers(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = TABLE
    a_store().fetch(f"{web.url}/a.csv", on)
    web.status = 503
    assert content(a_store().fetch(f"{web.url}/a.csv", on).folder) == {"data": TABLE}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (403, NoRights, "data_missing"),
        (404, NotThere, "data_missing"),
        (503, Unanswered, "data_missing"),
    ],
)
def test_an_address_that_gives_nothing_is_told(
    web: DataServer, a_store: Stores, status: int, error: type[FetchError], kind: str
) -> None:
    web.status = status
    with pytest.raises(error, match=str(status)) as caught:
        a_store().fetch(f"{web.url}/a.csv?key=secret", on)
    assert caught.value.kind == kind
    assert "secret" not in str(caught.value)
    assert len(web.asked) == (6 if error is Unanswered else 1)


def test_where_an_address_leads_is_judged_before_it_is_followed(
    web: DataServer, a_store: Stores
) -> None:
    web.files = {"/public/a": f"{web.url}/private/b", "/private/b": TABLE}
    with pytest.raises(AddressDenied, match="/public/a leads"):
        a_store(f"{web.url}/public").fetch(f"{web.url}/public/a", on)
    assert web.asked == [(302, 0)]
    at_hand = a_store(web.url).fetch(f"{web.url}/public/a", on)
    assert content(at_hand.folder) == {"data": TABLE}


def test_what_does_not_fit_is_refused_before_it_is_fetched(
    web: DataServer, a_store: Stores
) -> None:
    web.files["/a.csv"] = bytes(20_000)
    with pytest.raises(TooLarge, match="--cache-gb"):
        a_store(limit_bytes=10_000).fetch(f"{web.url}/a.csv", on)


def test_an_archive_that_grows_beyond_the_bound_is_left(
    web: DataServer, a_store: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_fetch, "_LOOK_BYTES", 1000)
    web.files["/bomb.tar.gz"] = tar_of({"zeros": bytes(8 << 20)})
    with pytest.raises(TooLarge):
        a_store(limit_bytes=1 << 20).fetch(f"{web.url}/bomb.tar.gz", on)
    left = sum(
        path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()
    )
    assert left < 1 << 20


def test_what_cannot_be_unpacked_is_fetched_anew_the_next_time(
    web: DataServer, a_store: Stores
) -> None:
    whole = tar_of({"a": bytes(range(256)) * 400})
    web.files["/a.tar.gz"] = whole[:-200]
    for _ in range(2):
        with pytest.raises(ArchiveUnreadable):
            a_store().fetch(f"{web.url}/a.tar.gz", on)
    assert [status for status, _ in web.asked] == [200, 200]
    web.files["/a.tar.gz"] = whole
    assert list(content(a_store().fetch(f"{web.url}/a.tar.gz", on).folder)) == ["a"]
