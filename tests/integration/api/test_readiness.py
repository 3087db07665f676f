"""The service without its database, with a full one, with a newer one: 503 in words, never 500, and then it goes on."""

import socket
from pathlib import Path

from sqlalchemy import text

from service import embedded
from service.storage.engine import Database
from tests.support.app import Running, a_service, refused
from tests.support.documents import a_document
from tests.support.until import until

EVERYTHING = [
    ("GET", "/v1/studies", None),
    ("POST", "/v1/studies", a_document()),
    ("GET", "/v1/studies/x/trials", None),
    ("GET", "/v1/studies/x/events", None),
    ("POST", "/v1/studies/x:pause", None),
    ("DELETE", "/v1/studies/x", None),
    ("GET", "/v1/workers", None),
    ("POST", "/v1/workers", {"label": "a", "device": "cpu"}),
    ("POST", f"/v1/leases/{'0' * 8}-0000-4000-8000-{'0' * 12}:heartbeat", None),
    ("GET", "/readyz", None),
    ("GET", "/dashboard", None),
    ("GET", "/api/studies", None),
]


def assert_unavailable(service: Running) -> None:
    for method, path, body in EVERYTHING:
        answer = service.call(method, path, body)
        refused(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1, path
    assert service.call("GET", "/livez").status_code == 204
    refused(service.call("POST", "/v1/studies", b"{"), 400, "malformed-json")


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_service_waits_for_its_database_and_survives_its_absence(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    with embedded.running(folder, settings={"fsync": "off"}) as postgres:
        url = postgres.url  # its port and password are kept for the next start
    with a_service(url, tmp_path / "artifacts", ready=False) as service:
        assert_unavailable(service)
        with embedded.running(folder, settings={"fsync": "off"}) as postgres:
            assert postgres.url == url
            service.wait_until_ready()
            name = service.create()
            assert service.call("GET", "/api/studies").status_code == 200
        assert_unavailable(service)
        with embedded.running(folder, settings={"fsync": "off"}):
            until(lambda: service.call("GET", "/readyz").status_code == 204)
            assert service.call("GET", f"/v1/studies/{name}").json()["state"] == "active"
            assert service.call("GET", "/api/studies").status_code == 200


def test_a_full_disk_is_named(service: Running, database: Database) -> None:
    with database.statements() as connection:
        connection.execute(
            text("""
                CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
                CREATE TRIGGER full_disk BEFORE INSERT ON trimtab.studies
                FOR EACH ROW EXECUTE FUNCTION full_disk();""")
        )
    answer = service.call("POST", "/v1/studies", a_document(name="full"))
    refused(answer, 503, "storage-full")
    assert int(answer.headers["retry-after"]) >= 1
    refused(service.call("GET", "/v1/studies/full"), 404, "study-not-found")
    with database.statements() as connection:
        connection.execute(text("DROP TRIGGER full_disk ON trimtab.studies"))
    assert service.create(name="full") == "full"


def test_a_locked_study_is_unavailable_and_the_others_are_not(
    service: Running, database: Database
) -> None:
    locked, other = service.create(), service.create()
    with database.transaction() as connection:
        connection.execute(
            text("SELECT 1 FROM trimtab.studies WHERE name = :name FOR UPDATE"),
            {"name": locked},
        )
        refused(service.call("POST", f"/v1/studies/{locked}:pause"), 503, "unavailable")
        assert service.call("POST", f"/v1/studies/{other}:pause").status_code == 200
        assert service.call("GET", f"/v1/studies/{locked}").status_code == 200
    assert service.call("POST", f"/v1/studies/{locked}:pause").status_code == 200


def test_a_database_of_a_newer_version_is_refused_in_words(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    with database.statements() as connection:
        connection.execute(text("UPDATE public.trimtab_version SET version_num = '9999'"))
    with a_service(database_url, tmp_path, ready=False) as service:

        def told() -> str:
            return refused(service.call("GET", "/readyz"), 503, "unavailable")["detail"]

        until(lambda: "newer" in told())
        assert "9999" in told()
        refused(service.call("POST", "/v1/studies", a_document()), 503, "unavailable")
        assert service.call("GET", "/livez").status_code == 204


def test_a_service_under_which_a_newer_version_migrates_serves_nothing_more(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    with a_service(database_url, tmp_path, sweep_every_s=0.1) as old:
        lease = old.leased()
        with database.statements() as connection:
            connection.execute(text("UPDATE public.trimtab_version SET version_num = '9999'"))
        until(lambda: old.call("GET", "/readyz").status_code == 503)
        told = refused(old.call("GET", "/readyz"), 503, "unavailable")["detail"]
        assert "newer" in told
        assert "9999" in told
        words = {"kind": "completed", "value": 0.5}
        address = f"/v1/leases/{lease['lease_id']}/outcome"
        refused(old.call("PUT", address, words), 503, "unavailable")
        assert old.call("GET", "/livez").status_code == 204


def test_a_free_port_without_a_database_is_no_database(tmp_path: Path) -> None:
    url = f"postgresql://nobody:s3cr3t@127.0.0.1:{a_free_port()}/none"
    with a_service(url, tmp_path, ready=False) as service:
        answer = service.call("GET", "/readyz")
        assert "s3cr3t" not in answer.text
        refused(answer, 503, "unavailable")
