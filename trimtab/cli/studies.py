"""`trimtab study ...`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from trimtab.cli import (
    board,
    costs,
    documents,
    explain,
    failures,
    imports,
    labels,
    tables,
    terminal,
    watch,
)
from trimtab.client import Client
from trimtab.client.client import ENDED
from trimtab.contract.edits import NO_LIMIT, BudgetEdit, NeedsEdit, StudyEdit

Name = Annotated[str, typer.Argument(help="The study's name.", show_default=False)]
PageSize = Annotated[int, typer.Option(min=1, max=1000, help="Rows on a page.")]
PageToken = Annotated[
    str | None,
    typer.Option(help="The token at the end of the page before.", show_default=False),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Follow the study until it is done or blocked.")
]

app = typer.Typer(no_args_is_help=True, help="Submit studies, watch and steer them.")


@app.command()
def create(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", help="The study document, YAML or JSON; - reads stdin."),
    ],
    follow: Watch = False,
) -> None:
    """Submit a study from a document, which is checked here first."""
    document = documents.read(file)
    here = terminal.of(context)
    with here.client() as client:
        study = client.create_study(document)
        if follow:
            _follow(here, client, study.name)
        else:
            here.show(study, tables.study)


@app.command("list")
def list_studies(
    context: typer.Context, page_size: PageSize = 100, page_token: PageToken = None
) -> None:
    """List the studies, newest first."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.studies(page_size=page_size, page_token=page_token), tables.studies)


@app.command()
def show(context: typer.Context, name: Name, follow: Watch = False) -> None:
    """Show the progress of a study and its best trial."""
    here = terminal.of(context)
    with here.client() as client:
        if follow:
            _follow(here, client, name)
        else:
            here.show(client.study(name), tables.study)


@app.command()
def pareto(context: typer.Context, name: Name) -> None:
    """Show the best compromises of a study with two objectives."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.pareto(name), costs.front)


@app.command()
def best(
    context: typer.Context,
    name: Name,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Also save the model that the study hands over (.safetensors).",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Of an external study: also save what the loop of the best trial saved last.",
            show_default=False,
        ),
    ] = None,
    validated: Annotated[
        bool,
        typer.Option(
            "--validated", help="With --model: save the winner as it was validated instead."
        ),
    ] = False,
) -> None:
    """Show the best trial and, if the study is done, its scores on the sealed test split."""
    here = terminal.of(context)
    with here.client() as client:
        answer = client.best(name)
        if model is not None:
            client.download_model(
                name, model, which="validated" if validated else "handed_over"
            )
            here.err.print(f"saved {model}")
        if checkpoint is not None:
            client.download_checkpoint(name, checkpoint)
            here.err.print(f"saved {checkpoint}")
        here.show(answer, tables.best)
    is_tested = answer.recipe is not None  # an external study's winner never is
    if answer.state in ENDED and answer.final is None and is_tested:
        here.err.print(f"Study {name} ended without a tested model.")
        raise typer.Exit(failures.EXIT_FAILED)


@app.command("explain")
def show_why(context: typer.Context, name: Name) -> None:
    """Tell why trials were stopped, paused or taken up again, what proposed them, and what the audit found."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(explain.explain(client, name), explain.view)


@app.command("labels")
def show_labels(context: typer.Context, name: Name) -> None:
    """Show the validation values of the trials by the number of labels (`shots`)."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(labels.report(client, name), labels.view)


def _limit(metavar: str, told: str) -> Any:
    return typer.Option(help=told, show_default=False, metavar=f"{metavar}|none")


@app.command()
def edit(
    context: typer.Context,
    name: Name,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The whole number of trials, those that have begun and the refits included.",
            show_default=False,
        ),
    ] = None,
    wall_time_s: Annotated[
        str | None, _limit("SECONDS", "The whole wall time in seconds, or `none` for no limit.")
    ] = None,
    device_seconds: Annotated[
        str | None, _limit("SECONDS", "The whole time of workers in seconds, or `none`.")
    ] = None,
    epochs: Annotated[
        str | None, _limit("N", "The whole number of epochs of all trials, or `none`.")
    ] = None,
    target_value: Annotated[
        str | None, _limit("VALUE", "The objective value at which the search ends, or `none`.")
    ] = None,
    no_progress_trials: Annotated[
        str | None,
        _limit("N", "End after so many trials in a row without a better value, or `none`."),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Higher ones are served first.", show_default=False),
    ] = None,
    parallel: Annotated[
        str | None, _limit("N", "The number of trials that may be leased at a time, or `none`.")
    ] = None,
    gpu_memory_gb: Annotated[
        str | None,
        _limit("GB", "The memory of a GPU that its workers need, or `none` for any device."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="The study's document with its space changed, or that part of it; YAML or JSON, - reads stdin.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Change the budget, the priority, `parallel`, `needs` or the space; more budget takes a study that is done up again."""
    limits = {
        "wall_time_s": wall_time_s,
        "device_seconds": device_seconds,
        "epochs": epochs,
        "target_value": target_value,
        "no_progress_trials": no_progress_trials,
    }
    limits |= {"parallel": parallel, "gpu_memory_gb": gpu_memory_gb}
    changes = _edit(trials, limits, priority, space)
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.edit_study(name, **changes), tables.study)


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Start no more trials and put the running ones aside."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.pause(name), tables.study)


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Carry on after a pause, or let workers that were set aside try again."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.resume(name), tables.study)


@app.command()
def stop(context: typer.Context, name: Name) -> None:
    """Start no more trials, let the running ones finish, then evaluate the winner on the test split."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.stop(name), tables.study)


@app.command()
def cancel(context: typer.Context, name: Name) -> None:
    """End the study now; running trials are given up."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.cancel(name), tables.study)


@app.command()
def rebase(context: typer.Context, name: Name) -> None:
    """Accept data that have changed: begin all trials anew, and keep what was as NAME.before-N."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.rebase(name), tables.study)


app.command("import")(imports.import_study)


@app.command("rm")
def remove(context: typer.Context, name: Name) -> None:
    """Delete a study and its trials."""
    here = terminal.of(context)
    with here.client() as client:
        client.delete(name)
    here.err.print(f"removed {name}")


def _edit(
    trials: int | None,
    limits: Mapping[str, str | None],
    priority: int | None,
    space: Path | None,
) -> dict[str, Any]:
    """Return the changes that were given, as the client takes them."""
    given: dict[str, Any] = {
        name: _read(name, text) for name, text in limits.items() if text is not None
    }
    given |= {} if trials is None else {"trials": trials}
    given |= {} if priority is None else {"priority": priority}
    if not given and space is None:
        raise typer.BadParameter("give what is to change, such as --trials or --priority")
    try:
        _check(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise typer.BadParameter(
            f"{first['msg']}, or `none` for no limit", param_hint=option
        ) from None
    if space is not None:
        read = documents.read_space(space)
        given |= {"space": read.space, "fixed": read.fixed}
    return given


def _check(given: Mapping[str, Any]) -> None:
    of_study = {name: given[name] for name in ("priority", "parallel") if name in given}
    needs = {name: given[name] for name in NeedsEdit.model_fields if name in given}
    if needs and NO_LIMIT not in needs.values():
        NeedsEdit.model_validate(needs)
    others = of_study.keys() | needs
    BudgetEdit.model_validate({name: given[name] for name in given if name not in others})
    if of_study:
        StudyEdit.model_validate(of_study)


def _read(name: str, text: str) -> float | str:
    try:
        whole = name in ("epochs", "no_progress_trials", "parallel")
        return int(text) if whole else float(text)
    except ValueError:
        return text


def _follow(here: terminal.Terminal, client: Client, name: str) -> None:
    program = terminal.program()
    # With -o json the standard output is for the answer alone.
    screen = here.err if here.output == "json" else here.out
    client.study(name)  # a service that is not there at all is told at once
    try:
        with here.client(terminal.FOLLOWS_S) as patient:
            board.follow(screen, watch.follow(patient, name))
    except KeyboardInterrupt:
        here.err.print(
            f"The study goes on. To watch it again: {program} study show {name} --watch. To end it: {program} study cancel {name}",
            soft_wrap=True,
        )
        raise
    study = client.study(name)
    here.show(study, tables.study)
    has_winner = study.best if study.document.is_external else study.final
    if has_winner is None:
        raise typer.Exit(failures.EXIT_FAILED)
