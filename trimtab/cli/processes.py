"""A process that we started, with its log and its lifeline."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trimtab import lifeline

TAIL_BYTES = 4096
TAIL_LINES = 12


class Process:
    """A running process. It leaves in good order when it is let go, or when this process ends in any way."""

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self._log_begins = errors.tell()
            self._child = lifeline.spawn(argv, env=env, stdout=subprocess.PIPE, stderr=errors)
        self._is_held = True

    def read_line(self) -> str:
        """Return the next line of its standard output; empty after the end."""
        output = self._child.process.stdout
        return output.readline() if output else ""

    def drain(self) -> None:
        """Copy the rest of its output into its log until the output ends; otherwise the process would block."""
        output = self._child.process.stdout
        if output is None:
            return
        with output, self.log.open("a") as log:
            for line in output:
                log.write(line)
                log.flush()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and return the exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: the process still runs.
        """
        return self._child.process.wait(timeout_s)

    def let_go(self) -> None:
        """Ask it to leave in good order; asking again changes nothing."""
        if self._is_held:
            self._is_held = False
            self._child.let_go()

    def leave(self, within_s: float) -> None:
        """Let it go, and kill it if it has not left in time."""
        self.let_go()
        try:
            self.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()

    def kill(self) -> None:
        """Kill it; the processes that it started notice by their own lifelines."""
        self._child.process.kill()

    def tail(self) -> str:
        """Return the last lines that it wrote to its log; earlier processes wrote to the same file."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_begins, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])


def describe(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
