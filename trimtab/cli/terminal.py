"""The terminal of a command: the service that it asks, and the way it prints."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.text import Text

from trimtab.client import Client

Output = Literal["table", "json"]
Shown = TypeVar("Shown", bound=BaseModel)

PATIENCE_S = 3.0
"""Seconds for which a command waits for a service that does not answer."""

FOLLOWS_S = 90.0
"""Seconds for which a command that follows a study waits: `up` starts a service again that fell, with its database."""


@dataclass(frozen=True)
class Terminal:
    """The global options. `out` is for answers, `err` for everything else."""

    server: str | None
    token: str | None
    output: Output
    out: Console
    err: Console

    def client(self, patience_s: float = PATIENCE_S) -> Client:
        """Return a client of the service that the options name, which may be away for this many seconds."""
        return Client(self.server, self.token, retry_for_s=patience_s)

    def show(self, answer: Shown, view: Callable[[Shown], RenderableType]) -> None:
        """Print an answer: as JSON where `-o json` asks for it, else as `view` draws it."""
        if self.output == "json":
            self.write_json(answer.model_dump_json(indent=2))
        else:
            self.out.print(view(answer), soft_wrap=True)

    def write_json(self, text: str) -> None:
        """Write JSON untouched by any wrapping or colour."""
        self.out.file.write(text + "\n")
        self.out.file.flush()


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: names and messages are not markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def of(context: typer.Context) -> Terminal:
    """Return the terminal that the global options made."""
    terminal: object = context.obj
    if not isinstance(terminal, Terminal):
        raise TypeError("the command must be run by `trimtab`, which reads the global options")
    return terminal


def program() -> str:
    """Return the name by which this program was called, for the commands that a person may copy."""
    called = os.environ.get("TRIMTAB_PROGRAM")
    if called:
        return called
    name = Path(sys.argv[0]).name
    return "python -m trimtab.cli" if name == "__main__.py" else name


def print_facts(screen: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one on each line and never wrapped, so that they can be copied."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        screen.print(Text.assemble((name.ljust(width + 2), "dim"), value), soft_wrap=True)
