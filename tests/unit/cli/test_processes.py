"""A process that we started, and its log."""

import os
import sys
from pathlib import Path

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
