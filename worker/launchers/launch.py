"""What every launcher needs to know, and how it says what is in its way."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker import token_files

SETTINGS = ("TRIMTAB_WORKER_", "TRIMTAB_BACKBONES")
"""The beginnings of the variables that a launcher hands on: settings of workers, and no secret among them."""


class CannotLaunch(Exception):
    """Nothing was started, or not everything; the message says why, and what to do."""


@dataclass(frozen=True)
class Launch:
    """The workers to start.

    Attributes:
        server: The address of the service, as the workers reach it.
        token_file: The file with the service's token, for the machines of the workers; None: the service has none.
        options: Further options of `worker start`.
        settings: The settings that the workers get by their environment; None: those of this process.
    """

    server: str
    token_file: Path | None
    options: Sequence[str] = ()
    settings: Mapping[str, str] | None = None

    def command(self, *program: str) -> list[str]:
        """Return the command that starts one worker; the token is not in it.

        Args:
            program: The command that stands before `start`; none: that of this installation, by its whole path.
        """
        whole = program or (sys.executable, "-P", "-m", "worker")
        token = () if self.token_file is None else ("--token-file", str(self.token_file))
        return [*whole, "start", "--server", self.server, *token, *self.options]

    def exports(self) -> list[str]:
        """Return the lines of a shell script that set the workers' settings."""
        chosen = sorted(self.chosen_settings().items())
        return [f"export {name}={shlex.quote(value)}" for name, value in chosen]

    def chosen_settings(self) -> dict[str, str]:
        """Return the settings that are handed on: those given, else those of this process's environment."""
        return settings_of(os.environ) if self.settings is None else dict(self.settings)


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of workers among the variables of an environment."""
    return {name: value for name, value in environment.items() if name.startswith(SETTINGS)}


def checked_token_file(path: Path | None) -> Path | None:
    """Return the whole path of a token file that can be handed on.

    Raises:
        CannotLaunch: a token stands in the environment alone, where it would have to be sent in the open.
        token_files.TokenUnusable: the file cannot be used.
    """
    if path is None:
        if os.environ.get("TRIMTAB_TOKEN"):
            raise CannotLaunch(
                "workers get the token by a file that only you can read, so that no job shows it: "
                "`(umask 077; printenv TRIMTAB_TOKEN > ~/.trimtab-token)`, then --token-file ~/.trimtab-token"
            )
        return None
    token_files.read(path)
    return path.resolve()


def engine(program: str, name: str, where: str) -> str:
    """Return the path of an engine's program.

    Raises:
        CannotLaunch: it is not on this machine.
    """
    found = shutil.which(program)
    if found is None:
        raise CannotLaunch(
            f"{name} is not on this machine: there is no `{program}` on the PATH. Run this {where}; "
            "--dry-run prints what would be submitted."
        )
    return found


def ask(argv: Sequence[str], text: str) -> str:
    """Run an engine's program with a text as its input; return what it answered.

    Raises:
        CannotLaunch: it refused; the message has its own words.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise CannotLaunch(f"{Path(argv[0]).name} refused: {told}")
    return done.stdout.strip()
