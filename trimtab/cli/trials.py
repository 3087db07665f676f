"""`trimtab trial ...`."""

import json
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError

from trimtab.cli import tables, terminal
from trimtab.cli.studies import Name, PageSize, PageToken
from trimtab.contract.search_space import Scalar
from trimtab.contract.trials import TrialState

Number = Annotated[int, typer.Argument(min=0, help="The trial's number.", show_default=False)]

app = typer.Typer(no_args_is_help=True, help="Look at the trials of a study, and steer them.")


@app.command("list")
def list_trials(
    context: typer.Context,
    study: Name,
    state: Annotated[
        TrialState | None,
        typer.Option(help="Only the trials in this state.", show_default=False),
    ] = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> None:
    """List a study's trials by number."""
    here = terminal.of(context)
    with here.client() as client:
        page = client.trials(study, page_size=page_size, page_token=page_token, state=state)
        here.show(page, tables.trials)


@app.command()
def show(
    context: typer.Context,
    study: Name,
    number: Number,
) -> None:
    """Show one trial: its hyperparameters, its curve, its attempts, what its worker found."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.trial(study, number), tables.trial)


@app.command()
def add(
    context: typer.Context,
    study: Name,
    given: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A searched hyperparameter and its value, as in JSON; names that are missing get the prior's.",
            default_factory=list,
            show_default=False,
        ),
    ],
) -> None:
    """Have a configuration tried next; it takes one trial of the budget."""
    here = terminal.of(context)
    values = _values(given)
    with here.client() as client:
        here.show(client.enqueue_trial(study, values), tables.trial)


@app.command()
def stop(context: typer.Context, study: Name, number: Number) -> None:
    """End one trial: one that runs is pruned after its epoch, one that waits is cancelled."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.stop_trial(study, number), tables.trial)


@app.command()
def retry(context: typer.Context, study: Name, number: Number) -> None:
    """Queue a trial that has failed again."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.retry_trial(study, number), tables.trial)


def _values(given: Sequence[str]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            _refuse(f"{pair!r} is no NAME=VALUE, such as learning_rate=1e-3")
        if name in found:
            _refuse(f"{name} is set twice")
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Scalar:
    """Return what the text says as JSON; else it is the text itself, which then needs no quotes."""
    try:
        said: object = json.loads(text)
    except ValueError:
        return text
    try:
        return TypeAdapter[Scalar](Scalar).validate_python(said)
    except ValidationError:
        _refuse(
            f"{text!r} is no value of a hyperparameter: give a finite number, a word, true, false or null"
        )


def _refuse(why: str) -> NoReturn:
    raise typer.BadParameter(why, param_hint="--set")
