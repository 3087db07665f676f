"""The service as the network sees it: `create_app` behind uvicorn on a loopback port, in a thread of the test."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import uvicorn
from pydantic import SecretStr

from service.app import create_app
from service.settings import Settings
from tests.support.documents import a_document
from tests.support.records import a_record
from tests.support.until import until

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Running:
    """A service that answers at `url`; `http` speaks to it, without retries."""

    url: str
    http: httpx2.Client

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send one request; a body that is not bytes is sent as JSON."""
        if isinstance(body, bytes):
            options["content"] = body
            options["headers"] = JSON | options.get("headers", {})
        elif body is not None:
            options["json"] = body
        return self.http.request(method, path, **options)

    def create(self, **changes: Any) -> str:
        """Create a study from `a_document`, under a name of its own unless one is given; returns the name."""
        name = changes.pop("name", f"study-{uuid4().hex[:8]}")
        answer = self.call("POST", "/v1/studies", a_document(name=name, **changes))
        assert answer.status_code == 201, answer.text
        return name

    def register(self, **changes: Any) -> str:
        """Register a worker; returns its id."""
        answer = self.call(
            "POST", "/v1/workers", {"label": "tester", "device": "cpu"} | changes
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["worker_id"]

    def claim(self, worker_id: str, **changes: Any) -> list[dict[str, Any]]:
        """Claim under a fresh claim_id, and begin the trials of it as a worker does; returns the leases."""
        body = {"worker_id": worker_id, "claim_id": str(uuid4())} | changes
        answer = self.call("POST", "/v1/leases", body)
        assert answer.status_code in (200, 204), answer.text
        leases: list[dict[str, Any]] = (
            answer.json()["leases"] if answer.status_code == 200 else []
        )
        for lease in leases:
            if lease["kind"] == "trial":
                record = a_record().model_dump(mode="json")
                self.call("PUT", f"/v1/leases/{lease['lease_id']}/record", record)
        return leases

    def leased(self, **changes: Any) -> dict[str, Any]:
        """A lease of a new study's first trial, held by a new worker."""
        name = self.create(**{"priority": 1000, "budget": {"trials": 1}} | changes)
        (lease,) = self.claim(self.register())
        assert lease["study"] == name
        return lease

    def wait_until_ready(self) -> None:
        """Wait for the migrations."""
        until(lambda: self.http.get("/readyz").status_code == 204)


@contextmanager
def a_service(
    database_url: str, artifacts: Path, *, ready: bool = True, **settings: Any
) -> Generator[Running]:
    """Run a service on a free port until the block ends."""
    app = create_app(
        Settings(
            database_url=SecretStr(database_url),
            artifacts_dir=artifacts,
            pool_size=5,
            **settings,
        )
    )
    with (
        listening(app) as url,
        httpx2.Client(base_url=url, trust_env=False, timeout=120) as http,
    ):
        service = Running(url, http)
        if ready:
            service.wait_until_ready()
        yield service


@contextmanager
def listening(app: Any) -> Generator[str]:
    """Serve an ASGI application on a free loopback port; its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started or not thread.is_alive())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def refused(answer: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """Assert that the answer is this problem and a whole one (RFC 9457); returns its document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["type"]) == (status, f"/problems/{slug}"), document
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("urn:uuid:")
    return document
