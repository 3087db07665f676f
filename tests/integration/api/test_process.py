"""`python -P -m service` as its starters meet it: one line when it listens, and how it leaves."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from service.storage import engine
from tests.support.until import until

TOKEN = "s3cr3t-t0ken"
REPOSITORY = Path(__file__).parents[3]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "service", *arguments]


def environment(**settings: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")
    }
    return (
        kept
        | {"PYTHONPATH": str(REPOSITORY)}
        | {f"TRIMTAB_{key.upper()}": value for key, value in settings.items()}
    )


@contextmanager
def started(
    tmp_path: Path, url: str, *arguments: str, **settings: str
) -> Generator[subprocess.Popen[str]]:
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command("--port", "0", "--data-dir", str(tmp_path), *arguments),
            env=environment(database_url=url, **settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=[int(arguments[1])] if arguments else [],
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def announced(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout
    return json.loads(process.stdout.readline())


def test_it_refuses_to_listen_beyond_this_machine_without_a_token(tmp_path: Path) -> None:
    done = subprocess.run(
        command("--host", "0.0.0.0", "--data-dir", str(tmp_path / "never")),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "trimtab: settings: refusing to listen on 0.0.0.0 without a token: set TRIMTAB_TOKEN"
        " (`openssl rand -hex 32` makes one)\n"
    )
    assert not (tmp_path / "never").exists()


def test_it_announces_itself_once_and_leaves_on_a_signal(
    tmp_path: Path, database_url: str
) -> None:
    with started(tmp_path, database_url, token=TOKEN) as process:
        line = announced(process)
        assert line["dashboard"] == f"{line['url']}/dashboard"
        assert httpx2.get(f"{line['url']}/livez", trust_env=False).status_code == 204
        assert httpx2.get(f"{line['url']}/v1/info", trust_env=False).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout
        assert process.stdout.read() == ""


def test_on_a_signal_it_says_so_before_it_closes_and_answers_who_waits(
    tmp_path: Path, database_url: str
) -> None:
    with started(tmp_path, database_url, drain_s="8") as process:
        address = announced(process)["url"]
        with httpx2.Client(base_url=address, trust_env=False, timeout=60) as http:
            until(lambda: http.get("/readyz").status_code == 204)
            worker = http.post("/v1/workers", json={"label": "a", "device": "cpu"}).json()
            claim = {"worker_id": worker["worker_id"], "claim_id": str(uuid4()), "wait_s": 60}
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(
                    httpx2.post, f"{address}/v1/leases", json=claim, timeout=60
                )
                process.send_signal(signal.SIGTERM)
                until(lambda: http.get("/readyz").status_code == 503)
                assert waiting.result().status_code == 503
            assert http.get("/livez").status_code == 204
            assert http.get("/v1/studies").status_code == 200
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_many_workers_keep_their_connections_while_they_are_silent(
    tmp_path: Path, database_url: str
) -> None:
    with ExitStack() as stack:
        with few_open_files(FEW):
            process = stack.enter_context(started(tmp_path, database_url))
        url = urlsplit(announced(process)["url"])
        connections = [HTTPConnection(str(url.hostname), url.port) for _ in range(2 * FEW)]
        for each in connections:
            stack.callback(each.close)
        assert [alive(each) for each in connections] == [204] * len(connections)
        # The standard library's client would connect anew without a word: these must be the same sockets.
        sockets = [each.sock for each in connections]
        time.sleep(SILENT_S)
        assert [alive(each) for each in connections] == [204] * len(connections)
        assert [each.sock for each in connections] == sockets


FEW = 200
SILENT_S = 6.0
"""Longer than servers usually keep a connection on which nothing is said."""


@contextmanager
def few_open_files(count: int) -> Generator[None]:
    """Give what is started meanwhile a soft limit that a shell might give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def alive(connection: HTTPConnection) -> int:
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_it_leaves_with_its_lifeline(tmp_path: Path, database_url: str) -> None:
    read, write = os.pipe()
    try:
        with started(tmp_path, database_url, "--lifeline", str(read)) as process:
            announced(process)
            os.close(write)
            assert process.wait(60) == 0
    finally:
        os.close(read)


def test_no_secret_reaches_its_log(tmp_path: Path, database_url: str) -> None:
    wrong = engine.normalised(database_url).set(password="s3cr3t-passw0rd")
    url = wrong.render_as_string(hide_password=False)
    with started(tmp_path, url, token=TOKEN) as process:
        address = announced(process)["url"]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answers = [
            httpx2.get(f"{address}{path}", headers=headers, trust_env=False)
            for path in ("/readyz", "/v1/studies", "/api/studies")
        ]
        assert {answer.status_code for answer in answers} == {503}
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    log = (tmp_path / "log").read_text()
    assert "database_not_ready" in log
    told = log + "".join(answer.text for answer in answers)
    assert "s3cr3t" not in told


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            "CREATE TABLE public.alembic_version (version_num text)",
            "public.alembic_version (at nothing yet) that is another tool's",
        ),
        (
            "CREATE TYPE public.version_info AS ENUM ('mine')",
            'cannot be brought to trimtab\'s schema: type "version_info" already exists',
        ),
    ],
)
def test_on_a_database_that_it_cannot_use_it_does_not_start_and_says_why_in_few_words(
    tmp_path: Path, empty_database: str, made: str, why: str
) -> None:
    database = engine.connect(empty_database)
    with database.statements() as connection:
        connection.execute(text(made))
    database.dispose()
    with started(tmp_path, empty_database) as process:
        assert process.wait(60) == 1
    told = (tmp_path / "log").read_text()
    last = told.splitlines()[-1]
    assert last.startswith("trimtab: ")
    assert why in last
    assert len(told) < 4000
