"""Optuna Dashboard behind its dispatcher: it shows everything and changes nothing."""

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import text

from service.storage import engine
from tests.support.app import Running, a_service, refused

WRITES = [
    ("POST", "/api/studies"),
    ("DELETE", "/api/studies/1"),
    ("POST", "/api/studies/1/rename"),
    ("PUT", "/api/studies/1/note"),
    ("POST", "/api/studies/1/preference"),
    ("PUT", "/api/studies/1/preference_feedback_component_type"),
    ("POST", "/api/trials/1/tell"),
    ("POST", "/api/trials/1/user-attrs"),
    ("PUT", "/api/studies/1/0/note"),
    ("POST", "/api/artifacts/1"),
    ("DELETE", "/api/artifacts/1/1/a"),
    ("PATCH", "/api/studies/1"),
    ("OPTIONS", "/api/studies"),
    ("TRACE", "/api/studies"),
    ("post", "/api/studies"),
    ("POST", "/dashboard"),
    ("DELETE", "/static/bundle.js"),
    ("PUT", "/artifacts/1/1/a"),
    ("POST", "/csv/1"),
    ("POST", "/favicon.ico"),
]
PAGES = [
    "/dashboard",
    "/dashboard/",
    "/dashboard/studies/1",
    "/api/meta",
    "/api/studies",
    "/static/bundle.js",
    "/favicon.ico",
]


@pytest.fixture(scope="module")
def shown(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[Running, engine.Database]]:
    url = new_database()
    database = engine.connect(url)
    with a_service(url, tmp_path_factory.mktemp("artifacts")) as service:
        lease = service.leased(name="shown", budget={"trials": 3})
        reports = {"reports": [{"step": 0, "value": 0.25}, {"step": 1, "value": 0.5}]}
        service.call("POST", f"/v1/leases/{lease['lease_id']}/reports", reports)
        yield service, database
    database.engine.dispose()


def everything(database: engine.Database) -> list[list[Any]]:
    tables = (
        "studies",
        "trials",
        "trial_values",
        "trial_user_attributes",
        "study_user_attributes",
        "study_system_attributes",
    )
    with database.statements() as connection:
        return [
            list(connection.execute(text(f"SELECT * FROM public.{table} ORDER BY 1")))
            for table in tables
        ]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_nothing_can_be_written_through_it(
    shown: tuple[Running, engine.Database], method: str, path: str
) -> None:
    service, database = shown
    before = everything(database)
    body = {
        "study_name": "x",
        "directions": ["minimize"],
        "state": "Complete",
        "values": [9.0],
        "body": "x",
        "version": 1,
    }
    answer = service.call(method, path, body, headers={"X-HTTP-Method-Override": "POST"})
    if method != "post":  # a server may refuse what is no method before we see it
        refused(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, HEAD"
    assert answer.status_code >= 400
    assert everything(database) == before


def test_a_reading_method_cannot_be_turned_into_a_writing_one(
    shown: tuple[Running, engine.Database],
) -> None:
    service, database = shown
    before = everything(database)
    for path in (
        "/api/studies/1?_method=DELETE",
        "/api/studies/1/rename",
        "/api/trials/1/tell",
    ):
        service.call("GET", path, headers={"X-HTTP-Method-Override": "DELETE"})
    assert everything(database) == before


@pytest.mark.parametrize("path", PAGES)
def test_its_pages_are_there(shown: tuple[Running, engine.Database], path: str) -> None:
    answer = shown[0].http.get(path, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.content


def test_a_browser_that_is_given_the_services_address_finds_it(
    shown: tuple[Running, engine.Database],
) -> None:
    answer = shown[0].http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/dashboard")
    refused(shown[0].call("POST", "/"), 405, "method-not-allowed")


def test_it_shows_a_running_study_with_its_intermediate_values(
    shown: tuple[Running, engine.Database],
) -> None:
    service = shown[0]
    (summary,) = service.call("GET", "/api/studies").json()["study_summaries"]
    assert summary["study_name"] == "shown"
    study = service.call("GET", f"/api/studies/{summary['study_id']}").json()
    assert study["directions"] == ["maximize"]
    (trial,) = study["trials"]
    assert trial["state"] == "Running"
    assert trial["intermediate_values"] == [
        {"step": 0, "value": 0.25},
        {"step": 1, "value": 0.5},
    ]
    assert {param["name"] for param in trial["params"]} == {"learning_rate", "batch_size"}


@pytest.mark.parametrize(
    "path", ["/dashboards", "/apis", "/api2/x", "/staticx", "/csvs", "/favicon.ico/x"]
)
def test_only_its_own_paths_lead_to_it(
    shown: tuple[Running, engine.Database], path: str
) -> None:
    refused(shown[0].call("GET", path), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fapp.py",
        "/artifacts/..%2f..%2fx/y",
    ],
)
def test_no_path_leads_out_of_it(shown: tuple[Running, engine.Database], path: str) -> None:
    answer = shown[0].call("GET", path)
    assert answer.status_code in (400, 403, 404)
    assert "def " not in answer.text
