"""Postgres servers that are kept from one mutant to the next."""

import os
import subprocess
import sys
from pathlib import Path


class Servers:
    """A Postgres for each bench, kept from one mutant to the next: starting one costs more than most tests.

    One mutant at a time uses it. Its code is that of the clean copy.
    """

    def __init__(self, clean: Path, folder: Path) -> None:
        self._clean, self._folder = clean, folder
        self._kept: dict[int, tuple[subprocess.Popen[str], str]] = {}

    def url(self, bench: int) -> str | None:
        """The address of a bench's server, which is started if need be; None in a project that has none."""
        if not (self._clean / "tests" / "support" / "kept_postgres.py").is_file():
            return None
        if bench not in self._kept:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.kept_postgres", str(self._folder / f"postgres{bench}")],
                cwd=self._clean, env={**os.environ, "PYTHONPATH": str(self._clean)}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            self._kept[bench] = (process, process.stdout.readline().strip())
        return self._kept[bench][1]

    def end(self) -> None:
        """Stop them all."""
        for process, _ in self._kept.values():
            process.communicate()
