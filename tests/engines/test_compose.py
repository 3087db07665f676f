"""`./run engines compose`: docker-compose.yml on a real Podman: images built, three workers, one killed."""

import json
import secrets
import socket
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from tests.faults import checker
from tests.faults.facts import OPTUNAS, OURS, Facts
from tests.support import podman as podmen
from tests.support.documents import a_study_document
from tests.support.podman import Podman
from tests.support.until import until
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.trials import Trial

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]

BUILD_WITHIN_S = 3000.0
PATIENCE_S = 300.0
TRIALS = 6
WORKERS = 3
USER = "10001"


@dataclass(frozen=True)
class Stack:
    """What docker-compose.yml starts, as a project of its own.

    Args:
        podman: The Podman that runs it.
        project: The name of the project, with which the names of its containers begin.
        settings: The variables that a person sets.
    """

    podman: Podman
    project: str
    settings: Mapping[str, str]

    def compose(self, *words: str, within_s: float = PATIENCE_S, **changed: str) -> str:
        """Run podman-compose on the file as it is shipped, with these settings, of which some may be `changed`."""
        building = "--podman-build-args=--format=docker --network=host"
        return self.podman(
            "podman-compose",
            "-p",
            self.project,
            building,
            *words,
            within_s=within_s,
            **{**self.settings, **changed},
        )

    def container(self, service: str, number: int = 1) -> str:
        return f"{self.project}_{service}_{number}"

    def label(self, number: int) -> str:
        """The label under which a worker registers: the name of its host."""
        return self.podman.inspect(self.container("worker", number))["Config"]["Hostname"]

    @property
    def token(self) -> str:
        return self.settings["TRIMTAB_TOKEN"]

    def client(self) -> Client:
        port = self.settings["TRIMTAB_PORT"]
        return Client(f"http://127.0.0.1:{port}", self.token, retry_for_s=60)

    def logs(self) -> dict[str, str]:
        names = ["postgres", "service"]
        said = {name: self.podman.ask("podman", "logs", self.container(name)) for name in names}
        return {name: done.stdout + done.stderr for name, done in said.items()}

    def facts(self) -> Facts:
        """All that the checker of invariants looks at."""
        networks = self.podman.inspect(self.container("postgres"))["NetworkSettings"][
            "Networks"
        ]
        (network,) = networks.values()
        connection: Any = psycopg2.connect(
            host=network["IPAddress"],
            user="tt_owner",
            password=self.settings["TRIMTAB_DATABASE_PASSWORD"],
            dbname="trimtab",
            options="-ctimezone=UTC",
        )

        def rows(table: str) -> list[dict[str, Any]]:
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(f"SELECT * FROM {table}")
                return [dict(row) for row in cursor.fetchall()]

        try:
            return Facts(
                ours={name: rows(f"trimtab.{name}") for name in OURS},
                optunas={name: rows(f"public.{name}") for name in OPTUNAS},
                logs=self.logs(),
                secrets=[self.token],
                artifacts=self.artifacts(),
            )
        finally:
            connection.close()

    def artifacts(self) -> Path:
        """Where the volume of the artifacts is on this machine."""
        volume = self.podman.inspect(f"{self.project}_artifacts")
        return Path(volume["Mountpoint"], "artifacts")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    try:
        return podmen.ready(tmp_path_factory.mktemp("podman"))
    except podmen.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def stack(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    """The images built, database, service and three workers started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "TRIMTAB_TOKEN": secrets.token_hex(32),
        "TRIMTAB_DATABASE_PASSWORD": secrets.token_hex(32),
        "TRIMTAB_DATASETS": str(tmp_path_factory.mktemp("datasets")),
        "TRIMTAB_PORT": str(port),
        "TRIMTAB_WORKERS": str(WORKERS),
    }
    started = Stack(podman, f"trimtab{uuid.uuid4().hex[:8]}", settings)
    # It would build the same image once for each of the workers.
    started.compose("build", within_s=BUILD_WITHIN_S, TRIMTAB_WORKERS="1")
    try:
        started.compose("up", "--detach", "--scale", f"worker={WORKERS}")
        until(lambda: is_ready(started), within_s=PATIENCE_S)
        yield started
    finally:
        started.compose("down", "--volumes", "--timeout", "10")


@pytest.fixture
def client(stack: Stack) -> Generator[Client]:
    with stack.client() as opened:
        yield opened


def is_ready(stack: Stack) -> bool:
    try:
        with stack.client() as client:
            return len(client.workers().workers) >= WORKERS
    except problems.Problem:
        return False


def a_study(client: Client, name: str, epochs: int) -> None:
    document = a_study_document(
        name=name, fixed={"epochs": epochs}, budget={"trials": TRIALS}, lease_ttl_s=5.0
    )
    client.create_study(document)


def trials(client: Client, name: str) -> list[Trial]:
    return [client.trial(name, one.number) for one in client.trials(name).trials]


def running_on(client: Client, name: str) -> dict[str, int]:
    """The trials that report, by the label of their worker."""
    return {
        one.attempts[-1].worker: one.number
        for one in trials(client, name)
        if one.state == "running" and one.curve
    }


def outcomes(client: Client, name: str, number: int) -> list[str | None]:
    return [attempt.outcome for attempt in client.trial(name, number).attempts]


def check_the_end(stack: Stack, client: Client, name: str) -> None:
    """The study has its trials, each settled once, and no invariant is broken."""
    until(lambda: client.study(name).state == "done", within_s=PATIENCE_S)
    ended = trials(client, name)
    assert [(one.number, one.state) for one in ended] == [
        (number, "completed") for number in range(TRIALS)
    ]
    for one in ended:
        settled = outcomes(client, name, one.number)
        assert settled.count("completed") == 1, settled
        assert settled[-1] == "completed"
    assert checker.check(stack.facts()) == []


def test_images_are_built_and_what_they_weigh_is_told(stack: Stack) -> None:
    size = {
        name: stack.podman.inspect(f"localhost/trimtab-{name}")["Size"] / 1e9
        for name in ("server", "worker")
    }
    print(json.dumps({f"trimtab-{name} GB": round(gb, 2) for name, gb in size.items()}))  # noqa: T201 - it is what is asked for
    assert size["server"] < 1.0, "the server has no torch"


@pytest.mark.parametrize("service", ["service", "worker"])
def test_containers_are_an_ordinary_user_who_cannot_write_the_image(
    stack: Stack, service: str
) -> None:
    name = stack.container(service)
    assert stack.podman.inspect(name)["HostConfig"]["ReadonlyRootfs"] is True
    assert stack.podman("podman", "exec", name, "id", "-u").strip() == USER
    wrote = stack.podman.ask("podman", "exec", name, "touch", "/app/x")
    assert "Read-only file system" in wrote.stderr
    stack.podman("podman", "exec", name, "touch", "/tmp/x")


def test_a_study_on_three_workers_loses_nothing_when_one_is_killed(
    stack: Stack, client: Client
) -> None:
    a_study(client, "killed", epochs=12)
    until(lambda: len(running_on(client, "killed")) == WORKERS, within_s=PATIENCE_S)
    label = stack.label(2)
    lost = running_on(client, "killed")[label]
    stack.podman("podman", "kill", "--signal=KILL", stack.container("worker", 2))
    until(lambda: outcomes(client, "killed", lost)[0] == "expired", within_s=PATIENCE_S)
    check_the_end(stack, client, "killed")
    stack.podman("podman", "start", stack.container("worker", 2))


def test_workers_that_are_stopped_give_their_trials_back(stack: Stack, client: Client) -> None:
    a_study(client, "stopped", epochs=12)
    until(lambda: len(running_on(client, "stopped")) == WORKERS, within_s=PATIENCE_S)
    given_back = running_on(client, "stopped").values()
    stack.compose("stop", "--timeout", "120", "worker")
    for number in given_back:
        assert outcomes(client, "stopped", number)[0] == "drained"
        assert client.trial("stopped", number).crashes == 0
    for number in range(1, WORKERS + 1):
        ended = stack.podman.inspect(stack.container("worker", number))["State"]
        assert (ended["Status"], ended["ExitCode"]) == ("exited", 0)
    stack.compose("start", "worker")
    check_the_end(stack, client, "stopped")
