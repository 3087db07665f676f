"""The terminal that a command was given: whom to ask, how to print."""

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
"""How long a person waits for a service that does not answer."""


@dataclass(frozen=True)
class Terminal:
    """What the global options say. `out` carries answers, `err` everything else."""

    server: str | None
    token: str | None
    output: Output
    out: Console
    err: Console

    def client(self) -> Client:
        """The service that the options name."""
        return Client(self.server, self.token, retry_for_s=PATIENCE_S)

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
    """A console that prints text as it is: names and messages are no markup."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def of(context: typer.Context) -> Terminal:
    """The terminal that the global options made."""
    terminal: object = context.obj
    if not isinstance(terminal, Terminal):
        raise TypeError("the command runs under `trimtab`'s own options only")
    return terminal


def program() -> str:
    """How this program was called, for the lines that a person may copy."""
    called = os.environ.get("TRIMTAB_PROGRAM")
    if called:
        return called
    name = Path(sys.argv[0]).name
    return "python -m trimtab.cli" if name == "__main__.py" else name


def print_facts(screen: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, a line each, never broken: what stands there can be copied."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        screen.print(Text.assemble((name.ljust(width + 2), "dim"), value), soft_wrap=True)
