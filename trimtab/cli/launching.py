"""`trimtab worker launch`: starts workers where an engine runs them."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli import handover, terminal
from trimtab.client.client import address_of

_ENGINE = "Where workers run"
_SLURM = "Of --slurm"


def launch(
    context: typer.Context,
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- OPTION...]",
            help="Options of `worker start`, after two dashes.",
            show_default=False,
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm",
            help="An array of jobs, each with one worker.",
            rich_help_panel=_ENGINE,
        ),
    ] = False,
    ssh: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A host that ssh reaches; may be given more than once.",
            show_default=False,
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Actors on a cluster of Ray.", rich_help_panel=_ENGINE),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of workers; of --ssh, on each host.",
            show_default="1; of --ssh, one for each GPU",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="TRIMTAB_TOKEN_FILE",
            help="The file with the service's token, at this path on the workers' machines too; only you may read it.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be submitted, and submit nothing."),
    ] = False,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, help="The most workers that run at a time.", rich_help_panel=_SLURM
        ),
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="The partition.", rich_help_panel=_SLURM)
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="The time limit of a job, as 4:00:00.", rich_help_panel=_SLURM),
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="The CPUs of a job.", rich_help_panel=_SLURM)
    ] = None,
    gres: Annotated[
        str | None,
        typer.Option(
            help="The GPU of a job; none: without one.",
            show_default="gpu:1",
            rich_help_panel=_SLURM,
        ),
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            help="A further option of sbatch, as account=mine; may be given more than once.",
            show_default=False,
            rich_help_panel=_SLURM,
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            help="The command on the hosts.", show_default="trimtab", rich_help_panel="Of --ssh"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The cluster's address.", show_default="auto", rich_help_panel="Of --ray"
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The GPUs of a worker; 0: none.",
            show_default="1",
            rich_help_panel="Of --ray",
        ),
    ] = None,
) -> None:
    """Start workers where an engine runs them: it runs `trimtab worker start`, and this command leaves."""
    if slurm + bool(ssh) + ray != 1:
        raise typer.BadParameter(
            "say where workers run, by one of --slurm, --ssh HOST and --ray"
        )
    here = terminal.of(context)
    given = handover.given
    engines = {"--slurm": slurm, "--ray": ray}
    argv = ["launch", *(name for name, wanted in engines.items() if wanted)]
    argv += [f"--ssh={host}" for host in ssh or ()]
    argv += ["--server", address_of(here.server), *given("--workers", workers)]
    argv += given("--token-file", token_file) + (["--dry-run"] if dry_run else [])
    argv += given("--at-once", at_once) + given("--partition", partition)
    argv += given("--time", time) + given("--cpus", cpus) + given("--gres", gres)
    argv += [f"--sbatch={option}" for option in sbatch or ()] + given("--program", program)
    argv += given("--address", address) + given("--gpus", gpus)
    handover.become(here, "worker", [*argv, *(["--", *options] if options else [])])
