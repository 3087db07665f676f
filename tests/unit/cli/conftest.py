"""What tests of the command line's verbs use in place of a service."""

import httpx2
import pytest

from tests.unit.cli.played_service import Played
from trimtab.cli import terminal
from trimtab.client import Client


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Played:
    """A played service, which each verb speaks to."""
    played = Played()
    transport = httpx2.MockTransport(played.handle)

    def client(_: terminal.Terminal, patience_s: float = 0.0) -> Client:
        played.patience_s.append(patience_s)
        return Client("http://service.test", transport=transport)

    monkeypatch.setattr(terminal.Terminal, "client", client)
    return played
