"""One process that we started: its log, its lifeline, its end."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trimtab import lifeline

TAIL_BYTES = 4096
TAIL_LINES = 12


class Process:
    """A running process. It leaves in good order once it is let go, or when this process ends, however that ends."""

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
        """The next line of its standard output; empty once that has ended."""
        output = self._child.process.stdout
        return output.readline() if output else ""

    def drain(self) -> None:
        """Put whatever else it prints into its log, so that it never waits for a reader; returns at its end."""
        output = self._child.process.stdout
        if output is None:
            return
        with output, self.log.open("a") as log:
            for line in output:
                log.write(line)
                log.flush()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end; returns the exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it still runs.
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
        """End it now; whatever it started sees its own lifeline end."""
        self._child.process.kill()

    def tail(self) -> str:
        """The last lines of its log, without what others have left there before it."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_begins, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-TAIL_LINES:])


def describe(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
