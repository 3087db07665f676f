"""`trimtab trial ...`."""

from typing import Annotated

import typer

from trimtab.cli import tables, terminal
from trimtab.cli.studies import Name, PageSize, PageToken
from trimtab.contract.trials import TrialState

app = typer.Typer(no_args_is_help=True, help="Look at the trials of a study.")


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
    number: Annotated[
        int, typer.Argument(min=0, help="The trial's number.", show_default=False)
    ],
) -> None:
    """Show one trial: its hyperparameters, its curve, its attempts, what its worker found."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.trial(study, number), tables.trial)
