"""The `trimtab` command: its options, its commands and its error messages."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, TextIO

import stamina.instrumentation
import typer

from trimtab.cli import (
    datasets,
    demo,
    failures,
    handover,
    priors,
    studies,
    terminal,
    trials,
    up,
    workers,
)
from trimtab.contract import problems

GLOBAL_OPTIONS = ("--server", "--token", "--output", "-o")


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_on_a_character(stream)
    # stamina would log each retry to the standard output, which is for the answer alone.
    stamina.instrumentation.set_on_retry_hooks(())
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 ok, 1 failed, 2 wrong usage, 3 unreachable, 130 interrupted."""
    try:
        build()(hoist(arguments), prog_name="trimtab")
    except problems.Problem as problem:
        failures.show(terminal.console(stderr=True), problem)
        return failures.exit_code(problem)
    except OSError as error:
        failures.show_os_error(terminal.console(stderr=True), error)
        return failures.EXIT_FAILED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else failures.EXIT_FAILED
    return 0


def build() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Find the best fine-tune of a pretrained backbone, on all your GPUs, with a fraction of the epochs.",
    )
    app.callback()(options)
    app.command()(demo.demo)
    app.command()(up.up)
    app.command()(handover.server)
    app.add_typer(studies.app, name="study")
    app.add_typer(trials.app, name="trial")
    app.add_typer(datasets.app, name="data")
    app.command()(priors.priors)
    app.add_typer(workers.app, name="worker")
    app.command()(handover.predict)
    app.command()(handover.pretrain)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.console().print(f"trimtab {version('trimtab')}")
        raise typer.Exit


def options(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="TRIMTAB_SERVER", help="The service's address.", show_default=False
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TRIMTAB_TOKEN", help="The service's bearer token.", show_default=False
        ),
    ] = None,
    output: Annotated[
        terminal.Output, typer.Option("--output", "-o", help="How to print answers.")
    ] = "table",
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and leave.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
) -> None:
    """Read the options that every command takes, before or after its name."""
    del show_version
    context.obj = terminal.Terminal(
        server, token, output, terminal.console(), terminal.console(stderr=True)
    )


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the global options to the front, where typer looks for them: users write `trimtab study list -o json`."""
    first: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            rest += [argument, *remaining]
            break
        if argument in GLOBAL_OPTIONS and remaining:
            first += [argument, remaining.pop(0)]
        elif argument.startswith(tuple(f"{option}=" for option in GLOBAL_OPTIONS[:3])):
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def _never_fail_on_a_character(stream: TextIO) -> None:
    """Print `?` for characters that an old encoding lacks, instead of failing with a traceback."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
