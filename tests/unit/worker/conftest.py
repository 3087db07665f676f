"""A scripted service over real HTTP, and agents that work for it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import agents, scripted_service
from tests.support.agents import Start
from tests.support.scripted_service import ScriptedService


@pytest.fixture
def service() -> Generator[ScriptedService]:
    """Hands out the leases that it is given."""
    with scripted_service.running() as service:
        yield service


@pytest.fixture
def start(
    service: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Start]:
    """Starts an agent for it."""
    with agents.starting(service, tmp_path, monkeypatch) as start:
        yield start
