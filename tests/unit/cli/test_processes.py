"""A process that we started, and its log."""

import os
import sys
from pathlib import Path

import pytest

from trimtab.cli.family import leaves_within_s
from trimtab.cli.processes import Process


def test_the_end_of_its_log_leaves_out_what_stood_there_before(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("of another\n")
    program = "import sys; print('its own', file=sys.stderr)"
    process = Process("service", [sys.executable, "-c", program], log, dict(os.environ))
    process.drain()
    assert process.wait() == 0
    assert process.tail() == "its own"
    process.let_go()


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, 47.5),
        ({"TRIMTAB_WORKER_GRACE_S": "120"}, 160.0),
        ({"TRIMTAB_WORKER_GRACE_S": "soon"}, 47.5),
    ],
)
def test_a_worker_has_its_grace_before_it_is_killed(
    env: dict[str, str], seconds: float
) -> None:
    assert leaves_within_s(env) == seconds
