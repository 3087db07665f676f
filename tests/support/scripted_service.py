"""The worker's half of the service, in memory over real HTTP: it hands out leases and remembers what it is told."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

from tests.support.until import patience_s
from trimtab.contract import problems
from trimtab.contract.leases import Answer, Lease, Leases, Verdict
from trimtab.contract.memory import MemoryFinding, MemoryFindings
from trimtab.contract.message import Message
from trimtab.contract.validation_outputs import TrialOutputs, TrialOutputsPage
from trimtab.contract.workers import Worker

NAMES = {
    "reports": re.compile(r"POST /v1/leases/([^/:]+)/reports"),
    "heartbeat": re.compile(r"POST /v1/leases/([^/:]+):heartbeat"),
    "checkpoint": re.compile(r"POST /v1/leases/([^/:]+)/checkpoints"),
    "record": re.compile(r"PUT /v1/leases/([^/:]+)/record"),
    "release": re.compile(r"POST /v1/leases/([^/:]+):release"),
    "outcome": re.compile(r"PUT /v1/leases/([^/:]+)/outcome"),
    "upload": re.compile(r"PUT /v1/artifacts/([0-9a-f]{64})"),
    "download": re.compile(r"GET /v1/artifacts/([0-9a-f]{64})"),
    "remember": re.compile(r"POST /v1/leases/([^/:]+)/memory"),
    "outputs": re.compile(r"GET /v1/leases/([^/:]+)/validation-outputs\?from=\d+"),
    "memory": re.compile(r"GET /v1/memory\?backbone=([^&]+)"),
    "register": re.compile(r"POST /v1/workers()"),
    "claim": re.compile(r"POST /v1/leases()"),
}


@dataclass(frozen=True)
class Call:
    """One request that was answered; `body` is its JSON."""

    verb: str
    about: str
    body: Any


@dataclass
class ScriptedService:
    """What the tests set, and what they look at; every change wakes `wait_for`."""

    address: str = ""
    leases: list[Lease] = field(default_factory=list[Lease])
    findings: list[MemoryFinding] = field(default_factory=list[MemoryFinding])
    calls: list[Call] = field(default_factory=list[Call])
    artifacts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    verdicts: dict[int, Verdict] = field(default_factory=dict[int, Verdict])
    """By step, for reports."""
    verdict_on: dict[UUID, Verdict] = field(default_factory=dict[UUID, Verdict])
    """By lease, for reports and heartbeats."""
    trial_outputs: tuple[TrialOutputs, ...] = ()
    """What a final lease is told."""
    heartbeat_verdict: Verdict = "continue"
    draining: bool = False
    """Whether heartbeats are told that the worker is to leave."""
    ttl_s: float = 0.4
    """Short, so that heartbeats come often."""
    lost: set[UUID] = field(default_factory=set[UUID])
    refusals: dict[str, problems.Problem] = field(default_factory=dict[str, problems.Problem])
    """By verb (`beside` is a claim beside others): refuse it so, as long as it stands here."""
    turned_away: list[str] = field(default_factory=list[str])
    """Verbs that were said of a lost lease."""
    refused: list[str] = field(default_factory=list[str])
    deaf_after: set[str] = field(default_factory=set[str])
    """Verbs that are carried out once, but whose first answer never arrives."""
    withheld: dict[str, threading.Event] = field(default_factory=dict[str, threading.Event])
    """Verbs that are carried out, but whose first answer waits for the event."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    _claims: dict[str, Leases] = field(default_factory=dict[str, Leases])

    def give(self, *leases: Lease) -> None:
        """Hand out more leases, to whoever waits."""
        with self.changed:
            self.leases += leases
            self.changed.notify_all()

    def of(self, verb: str) -> list[Call]:
        """List what came of one verb."""
        return [call for call in self.calls if call.verb == verb]

    def outcomes(self) -> list[Any]:
        """List how trials ended."""
        return [call.body for call in self.of("outcome")]

    def steps(self, lease: Lease | None = None) -> list[int]:
        """List the epochs that were reported, of all leases or of one."""
        return [
            report["step"]
            for call in self.of("reports")
            if lease is None or call.about == str(lease.lease_id)
            for report in call.body["reports"]
        ]

    def wait_for(self, condition: Callable[[], bool], within_s: float | None = None) -> None:
        """Wait until the condition holds."""
        within_s = patience_s() if within_s is None else within_s
        with self.changed:
            assert self.changed.wait_for(condition, within_s), (
                f"did not happen within {within_s} s; calls: {[call.verb for call in self.calls][:50]}"
            )

    def answer(self, verb: str, about: str, body: bytes) -> Message | bytes | None:
        """Carry out one request."""
        with self.changed:
            try:
                if verb in self.refusals:
                    self.refused.append(verb)
                    raise self.refusals[verb]
                if verb == "upload":
                    self._store(about, body)
                    content = None
                else:
                    content = json.loads(body) if body else None
                result = self._answer(verb, about, content)
                self.calls.append(Call(verb, about, content))
                return result
            finally:
                self.changed.notify_all()

    def _answer(self, verb: str, about: str, body: Any) -> Message | bytes | None:
        match verb:
            case "register":
                return Worker(
                    worker_id=uuid4(), state="alive", last_seen=datetime.now(UTC), **body
                )
            case "claim" | "beside":
                return self._claim(body)
            case "memory" | "outputs":
                return self._told(verb)
            case "download":
                if about not in self.artifacts:
                    raise problems.ArtifactNotFound
                return self.artifacts[about]
            case "reports" | "heartbeat" | "outcome" | "release" | "checkpoint" | "record":
                if UUID(about) in self.lost:
                    self.turned_away.append(verb)
                    raise problems.LeaseLost
                told = self.verdict_on.get(UUID(about))
                if verb == "reports":
                    step = body["reports"][-1]["step"]
                    verdict = told or self.verdicts.get(step, "continue")
                    return Answer(verdict=verdict, ttl_s=self.ttl_s)
                if verb == "heartbeat":
                    return Answer(
                        verdict=told or self.heartbeat_verdict,
                        ttl_s=self.ttl_s,
                        draining=self.draining,
                    )
                return AnySettled(state="completed") if verb == "outcome" else None
            case _:
                return None

    def _told(self, verb: str) -> Message:
        if verb == "outputs":
            return TrialOutputsPage(trials=self.trial_outputs)
        return MemoryFindings(findings=tuple(self.findings))

    def _claim(self, body: Any) -> Leases:
        claimed = self._claims.get(body["claim_id"])
        if claimed is None:
            deadline = time.monotonic() + body["wait_s"]
            while not self._has_for(body) and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            claimed = Leases(leases=(self.leases.pop(0),) if self._has_for(body) else ())
            if claimed.leases:
                self._claims[body["claim_id"]] = claimed
        return claimed

    def _has_for(self, body: Any) -> bool:
        return bool(self.leases) and body["beside"] in (None, self.leases[0].study)

    def _store(self, sha256: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != sha256:
            raise problems.Sha256Mismatch
        self.artifacts[sha256] = body


def read_line(line: str, body: bytes) -> tuple[str, str]:
    """Tell the verb of a request, and what it is about."""
    verb, about = next(
        (verb, match[1])
        for verb, pattern in NAMES.items()
        if (match := pattern.fullmatch(line))
    )
    is_beside = verb == "claim" and json.loads(body)["beside"] is not None
    return ("beside" if is_beside else verb), about


class AnySettled(Message):
    """Any state will do for a worker."""

    state: str


@contextmanager
def running() -> Generator[ScriptedService]:
    """Serve on a free port of the loopback interface."""
    service = ScriptedService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            line = f"{self.command} {self.path}"
            verb, about = read_line(line, body)
            try:
                result = service.answer(verb, about, body)
            except problems.Problem as problem:
                document = problem.document()
                self.reply(document.status, document.model_dump_json().encode())
                return
            withheld = service.withheld.pop(verb, None)
            if withheld is not None:
                withheld.wait(patience_s())
            if verb in service.deaf_after:
                service.deaf_after.discard(verb)
                self.close_connection = True
                self.connection.close()
                return
            match result:
                case None:
                    self.reply(204, b"")
                case bytes():
                    self.reply(200, result)
                case message:
                    self.reply(200, message.model_dump_json().encode())

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header(
                "Content-Type",
                "application/problem+json" if status >= 400 else "application/json",
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    service.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
