"""One thread: what these tests train is so small that more would only wait for one another."""

from collections.abc import Generator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Generator[None]:
    """Train on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
