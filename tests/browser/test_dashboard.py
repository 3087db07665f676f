"""The dashboard's pages as a browser shows them: headless Chromium on a real service."""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.support.app import Running, a_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--no-proxy-server", "--disable-background-networking", "--disable-component-update"),
    *("--enable-logging=stderr", "--dump-dom"),
    # The page's own clock, which stands while it loads or computes: how busy the machine is does not count.
    "--virtual-time-budget=20000",
)
TOKEN = 32 * "x"
STUDY = "seen-in-a-browser"
PATIENCE_S = 300.0
TROUBLE = ("Uncaught", "Failed to load", "Error")


class Browser:
    """Shows one page at a time, each in a fresh profile below a folder."""

    def __init__(self, program: str, folder: Path) -> None:
        # A browser refuses to run as root in its own sandbox.
        sandbox = () if os.geteuid() else ("--no-sandbox",)
        self._command = [program, *OPTIONS, *sandbox, f"--user-data-dir={folder}"]

    def show(self, url: str) -> tuple[str, str]:
        """The page's DOM once its scripts have run, and what it wrote to the console.

        Raises:
            subprocess.SubprocessError: the browser failed.
        """
        process = subprocess.Popen(
            [*self._command, url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            dom, log = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, url, dom, log)
        return dom, "\n".join(line for line in log.splitlines() if ":CONSOLE" in line)


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """The browser of this machine, if it has one that runs here."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    found = Browser(program, tmp_path / "profile")
    try:
        dom, _ = found.show("data:text/html,<p>it runs")
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{program} does not run on this machine: {error}")
    if "<p>it runs" not in dom:
        pytest.skip(f"{program} shows nothing on this machine")
    return found


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Generator[Running]:
    """A service with a study that is done: one trial, one model."""
    with a_service(database_url, tmp_path / "artifacts") as running:
        finish_a_study(running)
        yield running


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Generator[Running]:
    """The same with a token."""
    token = SecretStr(TOKEN)
    with a_service(database_url, tmp_path / "artifacts", token=token) as running:
        running.http.headers["Authorization"] = f"Bearer {TOKEN}"
        finish_a_study(running)
        yield running


def finish_a_study(service: Running) -> None:
    lease = service.leased(name=STUDY)
    reports = {"reports": [{"step": 0, "value": 0.25}, {"step": 1, "value": 0.5}]}
    service.call("POST", f"/v1/leases/{lease['lease_id']}/reports", reports)
    settle(service, lease["lease_id"], value=0.5)
    (final,) = service.claim(service.register())
    model = b"a model"
    sha256 = hashlib.sha256(model).hexdigest()
    service.call("PUT", f"/v1/artifacts/{sha256}", model)
    settle(service, final["lease_id"], value=0.5, model_sha256=sha256)
    assert service.call("GET", f"/v1/studies/{STUDY}").json()["state"] == "done"


def settle(service: Running, lease_id: str, **outcome: object) -> None:
    answer = service.call(
        "PUT", f"/v1/leases/{lease_id}/outcome", {"kind": "completed", **outcome}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("page", ["/dashboard/studies/1", "/dashboard/studies/1/trials"])
def test_a_study_is_shown_with_its_trials_parameters_and_without_trouble(
    browser: Browser, service: Running, page: str
) -> None:
    dom, console = browser.show(service.url + page)
    assert STUDY in dom
    assert "learning_rate" in dom
    assert not any(word in console for word in TROUBLE), console


def test_the_services_address_leads_to_its_studies(browser: Browser, service: Running) -> None:
    dom, console = browser.show(service.url)
    assert STUDY in dom
    assert not any(word in console for word in TROUBLE), console


def test_with_a_token_the_browser_gives_it_as_the_password_where_it_is_asked(
    browser: Browser, guarded: Running
) -> None:
    # A page whose own address has the password fetches nothing by its script: what it fetches is looked at alone.
    for path, seen in (("/dashboard", "<title>Optuna Dashboard"), ("/api/studies", STUDY)):
        address = guarded.url.replace("//", "//me:{}@") + path
        assert seen not in browser.show(address.format("wrong"))[0]
        assert seen in browser.show(address.format(TOKEN))[0]
