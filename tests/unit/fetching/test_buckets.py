"""Objects and folders of a real server of buckets, by the real library."""

import json
import sys
from collections.abc import Callable, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from tests.support.data_server import DataServer
from worker.fetching import buckets
from worker.fetching.buckets import Buckets
from worker.fetching.errors import ExtraMissing, FetchError, NoRights, NotThere, Unanswered
from worker.fetching.store import Store

Stores = Callable[..., Store]
CLIENT = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    """Return the address of a server without a bucket."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of the bucket `flowers`, and let the environment name its server."""
    environment(monkeypatch, server)
    # Imported so because it has no types.
    client: Any = import_module("boto3").client("s3", endpoint_url=server, **CLIENT)
    client.create_bucket(Bucket="flowers")
    for found in client.list_objects_v2(Bucket="flowers").get("Contents", ()):
        client.delete_object(Bucket="flowers", Key=found["Key"])
    return client


def environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def on(_: float) -> bool:
    return True


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def put(s3: Any, files: dict[str, bytes]) -> None:
    for key, body in files.items():
        s3.put_object(Bucket="flowers", Key=key, Body=body)


def test_an_object_is_fetched_and_fetched_again_when_it_has_changed(
    s3: Any, a_store: Stores
) -> None:
    put(s3, {"sets/a.csv": b"text,label\n"})
    fetch = a_store("s3://flowers/sets").fetch
    first = fetch("s3://flowers/sets/a.csv", on)
    assert content(first.folder) == {"data": b"text,label\n"}
    put(s3, {"sets/a.csv": b"text,label\nnew,1\n"})
    again = a_store("s3://flowers").fetch("s3://flowers/sets/a.csv", on)
    assert content(again.folder) == {"data": b"text,label\nnew,1\n"}
    assert again.fetched.version != first.fetched.version


def test_a_folder_is_fetched_with_all_that_is_below_it_alone(s3: Any, a_store: Stores) -> None:
    put(s3, {"pets/cat/1.png": b"cat", "pets/dog/1.png": b"dog", "pets/": b"", "pets2/x": b"x"})
    wanted = {"cat/1.png": b"cat", "dog/1.png": b"dog"}
    at_hand = a_store("s3://").fetch("s3://flowers/pets/", on)
    assert content(at_hand.folder) == wanted
    put(s3, {"pets/dog/1.png": b"two"})
    again = a_store("s3://").fetch("s3://flowers/pets/", on)
    assert content(again.folder) == {**wanted, "dog/1.png": b"two"}


def test_a_folder_is_gone_on_with_at_every_byte(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_RANGE_BYTES", 700)
    monkeypatch.setattr(buckets, "_BATCH_BYTES", 600)
    put(s3, {"pets/a": b"a" * 100, "pets/b": b"b" * 300, "pets/c": b"c" * 2000})
    origin = Buckets("s3")
    with origin.opened("s3://flowers/pets", None, None) as opened:
        assert opened is not None
        whole = b"".join(opened.chunks)
        assert len(whole) == opened.version.bytes
    files, objects = origin._look("s3://flowers/pets")  # pyright: ignore[reportPrivateUsage]
    for offset in (0, 1, 511, 512, 700, 1100, 2000, 3000, 4500, len(whole) - 1, len(whole)):
        rest = b"".join(buckets._chunks("s3://flowers/pets", files, objects, offset))  # pyright: ignore[reportPrivateUsage]
        assert rest == whole[offset:], offset


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://nobody-has-this/a.csv", "there is no bucket nobody-has-this"),
        ("s3://flowers/nothing.csv", "there is no such object"),
    ],
)
def test_what_is_not_there_is_told(s3: Any, a_store: Stores, address: str, told: str) -> None:
    with pytest.raises(NotThere, match=told):
        a_store("s3://").fetch(address, on)


@pytest.mark.parametrize(("status", "error"), [(403, NoRights), (503, Unanswered)])
def test_a_bucket_that_is_closed_or_away_is_told(
    web: DataServer,
    a_store: Stores,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[FetchError],
) -> None:
    environment(monkeypatch, web.url)
    web.status = status
    with pytest.raises(error, match=r"s3://flowers/a\.csv: "):
        a_store("s3://").fetch("s3://flowers/a.csv", on)


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_library_that_is_not_installed_is_told(
    a_store: Stores, monkeypatch: pytest.MonkeyPatch, scheme: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraMissing, match=rf"{library}, .* pip install 'trimtab\[{scheme}\]'"):
        a_store(f"{scheme}://").fetch(f"{scheme}://flowers/a.csv", on)


@pytest.fixture
def google(web: DataServer, monkeypatch: pytest.MonkeyPatch) -> DataServer:
    """Return a server that has one object of Google's bucket `flowers`."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", web.url)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    told = {"name": "a.csv", "bucket": "flowers", "size": "11", "etag": "v1", "generation": "1"}
    times = {"updated": "2026-01-01T00:00:00Z", "timeCreated": "2026-01-01T00:00:00Z"}
    web.files["/storage/v1/b/flowers/o/a.csv"] = json.dumps(told | times).encode()
    web.files["/download/storage/v1/b/flowers/o/a.csv"] = b"text,label\n"
    return web


def test_an_object_of_google_is_fetched_and_what_is_not_there_is_told(
    google: DataServer, a_store: Stores
) -> None:
    at_hand = a_store("gs://flowers").fetch("gs://flowers/a.csv", on)
    assert content(at_hand.folder) == {"data": b"text,label\n"}
    assert at_hand.fetched.version == "v1"
    with pytest.raises(NotThere, match="there is no such object"):
        a_store("gs://flowers").fetch("gs://flowers/b.csv", on)


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_of_google_that_is_closed_is_told(
    google: DataServer, a_store: Stores, status: int
) -> None:
    google.status = status
    with pytest.raises(NoRights, match=r"gs://flowers/a\.csv: "):
        a_store("gs://").fetch("gs://flowers/a.csv", on)
