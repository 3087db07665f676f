"""`trimtab study import`: a study of plain Optuna comes in as history."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.text import Text

from trimtab.cli import handover, terminal
from trimtab.cli.failures import printable
from trimtab.contract.imports import ImportReport, StudyImport
from trimtab.contract.problems import ImportRefused

READER = "service.optuna_source"


def import_study(
    context: typer.Context,
    storage: Annotated[
        str,
        typer.Option(
            help="Optuna's storage: sqlite:///study.db, postgresql://..., or the file of a journal."
        ),
    ],
    study: Annotated[str, typer.Option(help="The study's name in that storage.")],
    name: Annotated[
        str | None,
        typer.Option("--as", help="The name that it gets here.", show_default="its own"),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="A hyperparameter's name here, as lr=learning_rate; may be given more than once.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Bring in a study of plain Optuna as history: to look at in the dashboard, and to begin other studies with.

    The storage is read here, by the installed Optuna, and stays as it is.
    """
    renamed = _renamed(rename or [])
    here = terminal.of(context)
    found = read({"storage": storage, "study": study, "name": name, "renamed": renamed})
    with here.client() as client:
        here.show(client.import_study(found), shown)


def _renamed(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if wrong := [
        pair for pair, (old, _, new) in zip(pairs, split, strict=True) if not (old and new)
    ]:
        raise typer.BadParameter(
            f"{wrong[0]!r} is not OLD=NEW, such as lr=learning_rate", param_hint="--rename"
        )
    return {old: new for old, _, new in split}


def read(wanted: Mapping[str, object]) -> StudyImport:
    """Let a process of its own read the study: Optuna is no part of the command line.

    Raises:
        ImportRefused: It cannot be read, or is none that could be imported.
    """
    # By standard input, since every user of the machine can read arguments, and a URL may hold a password.
    done = subprocess.run(
        handover.command(READER, []),
        input=json.dumps(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    answer = done.stdout.strip()
    if done.returncode != 0 or not answer:
        raise ImportRefused("The storage could not be read; the error stands above.")
    refused = json.loads(answer).get("refused")
    if refused is not None:
        raise ImportRefused(str(refused))
    try:
        return StudyImport.model_validate_json(answer)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(map(str, first["loc"]))
        raise ImportRefused(f"The study cannot be imported: {place}: {first['msg']}.") from None


def shown(answer: ImportReport) -> RenderableType:
    """Return what has come in, in sentences."""
    return Group(*(Text(printable(line)) for line in _lines(answer)))


def _lines(answer: ImportReport) -> list[str]:
    lines = [
        f"imported {answer.source} as {answer.name}: {answer.complete} complete, {answer.pruned} pruned, {answer.failed} failed",
        f"usable to begin other studies with: {answer.usable} trials, by {_names(answer.names)}",
    ]
    if answer.zombies:
        lines.append(
            f"zombies: {answer.zombies} stood as running without a sign of life, and are kept as failed"
        )
    if answer.left_out:
        lines.append(f"left out: {answer.left_out} that wait or still run")
    if answer.strange_names:
        lines.append(
            f"no counterpart here: {_names(answer.strange_names)}; import again with --rename OLD=NEW if one has another name"
        )
    if answer.changed_names:
        lines.append(f"ranges that changed midway: {_names(answer.changed_names)}")
    return lines


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none of its hyperparameters"
