"""A service process for each test."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from trimtab import lifeline
from trimtab.client import Client


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Generator[Client]:
    """A client of a service process of the test's own."""
    child = lifeline.spawn(
        [sys.executable, "-P", "-m", "service", "--port", "0", "--data-dir", str(tmp_path)],
        env={
            **os.environ,
            "TRIMTAB_DATABASE_URL": database_url,
            "TRIMTAB_SWEEP_EVERY_S": "0.5",
        },
        stdout=subprocess.PIPE,
    )
    assert child.process.stdout is not None
    with (
        child.process.stdout as announced,
        Client(json.loads(announced.readline())["url"]) as opened,
    ):
        yield opened
        child.let_go()
        assert child.process.wait(30) == 0, "the service leaves in good order with its lifeline"
