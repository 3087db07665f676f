"""Who is let in: with a token nobody without it, without one only who asks for this machine by its name."""

import base64
from collections.abc import Callable, Generator

import pytest
from pydantic import SecretStr

from tests.support.app import Running, a_service, refused

TOKEN = "s3cr3t-t0ken"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
BESIDE_THE_API = (
    "/",
    "/nope",
    "/docs",
    "/redoc",
    "/docs/oauth2-redirect",
    "/openapi.json",
    "/dashboard",
    "/dashboard/studies/1",
    "/api/studies",
    "/api/studies/1",
    "/static/bundle.js",
    "/csv/1",
    "/artifacts/1/2",
    "/favicon.ico",
    "/livez/",
    "/livez/../v1/studies",
    "//livez",
    "/readyz%2f",
    "/v1/studies?x=/livez",
)


def basic(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


@pytest.fixture(scope="module")
def guarded(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[Running]:
    artifacts = tmp_path_factory.mktemp("artifacts")
    with a_service(new_database(), artifacts, token=SecretStr(TOKEN)) as running:
        yield running


def every_path(guarded: Running) -> list[str]:
    paths = guarded.call("GET", "/openapi.json", headers=BEARER).json()["paths"]
    return [*paths, *BESIDE_THE_API]


def test_nothing_answers_without_the_token(guarded: Running) -> None:
    paths = every_path(guarded)
    assert len(paths) > 30
    for path in paths:
        for method in METHODS:
            if path in ("/livez", "/readyz"):
                continue
            answer = guarded.call(method, path)
            assert answer.status_code == 401, (method, path)
            asked = answer.headers.get_list("www-authenticate")
            assert [one.split()[0] for one in asked] == (
                ["Bearer", "Basic"] if method in ("GET", "HEAD") else ["Bearer"]
            )


def test_a_refusal_tells_nothing_of_what_there_is(guarded: Running) -> None:
    there, not_there = (
        refused(guarded.call("GET", path), 401, "unauthorized")
        for path in ("/v1/studies", "/nope")
    )
    del there["instance"], not_there["instance"]
    assert there == not_there


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_token(guarded: Running, path: str) -> None:
    assert guarded.call("GET", path).status_code == 204


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN}".encode(),
        f"bearer   {TOKEN}".encode(),
        basic(f"anyone:{TOKEN}".encode()),
        basic(f":{TOKEN}".encode()),
    ],
)
@pytest.mark.parametrize("path", ["/v1/studies", "/openapi.json", "/docs", "/api/studies"])
def test_the_token_opens_everything(guarded: Running, path: str, authorization: bytes) -> None:
    answer = guarded.http.get(path, headers={b"Authorization": authorization})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b"Bearer",
        TOKEN.encode(),
        f"Bearer {TOKEN}x".encode(),
        f"Bearer {TOKEN[:-1]}".encode(),
        f"Bearer {TOKEN.upper()}".encode(),
        f"Digest {TOKEN}".encode(),
        "Bearer s3cr3t-t0kén".encode(),
        b"Bearer \xff\xfe\xfd",
        b"Basic \xff\xfe",
        b"Basic !!!",
        basic(TOKEN.encode()),
        basic(f"{TOKEN}:".encode()),
        basic(b"a:\xff\xfe"),
        b"Basic " + TOKEN.encode(),
    ],
)
def test_anything_but_the_token_is_refused(guarded: Running, authorization: bytes) -> None:
    answer = guarded.http.get("/v1/studies", headers={b"Authorization": authorization})
    document = refused(answer, 401, "unauthorized")
    assert TOKEN not in str(document)


def test_of_two_authorizations_none_is_chosen(guarded: Running) -> None:
    both = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {TOKEN}")]
    for headers in (both, both[::-1]):
        assert guarded.http.get("/v1/studies", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "path", [f"/v1/studies?token={TOKEN}", f"/v1/studies?access_token={TOKEN}"]
)
def test_an_address_carries_no_token(guarded: Running, path: str) -> None:
    assert guarded.call("GET", path).status_code == 401


def test_with_a_token_the_service_has_any_name(guarded: Running) -> None:
    answer = guarded.call("GET", "/v1/info", headers=BEARER | {"Host": "hpo.example:8000"})
    assert answer.json()["dashboard"] == "http://hpo.example:8000/dashboard"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.8.9.10", "[::1]", "[::1]:8000"]
)
def test_an_open_service_answers_to_this_machines_names(shared: Running, host: str) -> None:
    assert shared.call("GET", "/v1/studies", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "10.0.0.7:8000",
        "localhost.",
        "localhost.evil.example",
        "0.0.0.0",
        "[::]",
        "",
        "127.0.0.1@evil.example",
        "1",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/studies", "/dashboard", "/api/studies", "/livez", "/docs"]
)
def test_an_open_service_answers_to_no_other_name(
    shared: Running, host: str, path: str
) -> None:
    refused(shared.call("GET", path, headers={"Host": host}), 400, "bad-host")


def test_a_page_of_another_origin_changes_nothing(shared: Running) -> None:
    name = shared.create()
    headers = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}
    for method, path in (
        ("POST", f"/v1/studies/{name}:pause"),
        ("POST", f"/v1/studies/{name}:cancel"),
        ("POST", "/v1/studies"),
        ("DELETE", f"/v1/studies/{name}"),
        ("PUT", f"/v1/artifacts/{'0' * 64}"),
        ("PATCH", "/nope"),
        ("POST", "/v1/leases"),  # answered before the API is asked
        ("POST", "/api/studies"),
    ):
        refused(shared.call(method, path, headers=headers), 403, "cross-origin")
    assert (
        shared.call("GET", f"/v1/studies/{name}", headers=headers).json()["state"] == "active"
    )
    headers = {"Origin": shared.url, "Sec-Fetch-Site": "same-origin"}
    answer = shared.call("POST", f"/v1/studies/{name}:pause", headers=headers)
    assert answer.json()["state"] == "paused"


def test_a_password_reads_and_changes_nothing(guarded: Running) -> None:
    password = {b"Authorization": basic(f"a:{TOKEN}".encode())}
    assert guarded.http.get("/v1/studies", headers=password).status_code == 200
    refused(guarded.http.post("/v1/studies/x:pause", headers=password), 401, "unauthorized")
    refused(guarded.call("POST", "/v1/studies/x:pause", headers=BEARER), 404, "study-not-found")
