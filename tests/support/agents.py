"""Agents in threads, each with a real runner process that trains by a script."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_service import ScriptedService
from tests.support.workers import REPOSITORY, SCRIPTED
from trimtab.client import Client
from worker.agent.agent import Agent, Plan
from worker.agent.runner_process import command

Start = Callable[..., Agent]
"""Takes the script, and more of the agent's plan."""


def a_plan(service: ScriptedService, cache_dir: Path, **more: Any) -> Plan:
    """The plan of an agent whose runner is scripted."""
    return Plan(
        server=service.address,
        label="tester",
        cache_dir=cache_dir,
        runner=command(SCRIPTED, ()),
        **more,
    )


@contextmanager
def starting(
    service: ScriptedService, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Start]:
    """Start agents; all of them are told to leave at the end."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    started: list[tuple[Agent, threading.Thread, Client]] = []

    def start(script: str = "", **plan: Any) -> Agent:
        monkeypatch.setenv("TRIMTAB_WORKER_SCRIPT", script)
        client = Client(service.address, timeout_s=60, retry_for_s=0)
        agent = Agent(client, a_plan(service, cache_dir, **plan))
        thread = threading.Thread(target=agent.run)
        thread.start()
        started.append((agent, thread, client))
        return agent

    yield start
    for agent, thread, client in started:
        agent.leave()
        thread.join(60)
        client.close()
        assert not thread.is_alive()
