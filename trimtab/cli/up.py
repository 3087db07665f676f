"""`trimtab up`: service, database and workers on this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from trimtab import cores
from trimtab.cli import machine, terminal
from trimtab.cli.family import WORKER_SETTING, Address, Asked, Family
from trimtab.cli.handover import environment
from trimtab.client import Client
from trimtab.contract.message import Name
from trimtab.loopback import is_loopback

Port = Annotated[
    int,
    typer.Option(
        envvar="TRIMTAB_PORT",
        min=0,
        max=65535,
        help="The port to listen at; if it is taken, the next free one.",
    ),
]
DataDir = Annotated[
    Path,
    typer.Option(
        envvar="TRIMTAB_DATA_DIR",
        help="The folder of database, artifacts, models and logs.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=256,
        help="The number of workers; default: one per GPU, or one on the CPU.",
        show_default=False,
    ),
]
NO_ROOTS = (
    "whoever reaches the service from another machine could make the workers read any file: set TRIMTAB_WORKER_ROOTS to "
    "the folders of data sets and weights, with : between them (/ allows all), or start it with --workers 0"
)
HOW_TO_STOP = ("stop", "Ctrl-C: once in good order, twice kills")
DEFAULT_PORT = 8000
DEFAULT_DATA_DIR = Path(".trimtab")


def up(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            envvar="TRIMTAB_HOST",
            help="Where to listen; anything but loopback needs TRIMTAB_TOKEN.",
        ),
    ] = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workers: Workers = None,
) -> None:
    """Run service and workers on this machine until Ctrl-C."""
    if workers != 0 and not is_loopback(host) and not os.environ.get("TRIMTAB_WORKER_ROOTS"):
        raise typer.BadParameter(NO_ROOTS, param_hint="--host")
    here = terminal.of(context)
    family = Family(data_dir, environment(here.token), here.err.print)
    try:
        with family.until_asked():
            address = start(family, here, host, port)
            names = start_workers(family, address, workers)
            terminal.print_facts(here.out, _welcome(address, names, data_dir))
            family.wait()
    except Asked:
        # Ctrl-C is how this command is meant to end.
        return


def start(family: Family, here: terminal.Terminal, host: str, port: int) -> Address:
    """Start the service at the first free port from `port` on, and wait until it is ready."""
    here.err.print("Starting the database and the service ...")
    address = family.start_service(host, machine.free_port(port, host))
    with Client(address.url, here.token, retry_for_s=0) as client:
        family.wait_until_ready(client)
    return address


def start_workers(
    family: Family, address: Address, count: int | None, threads: int | None = None
) -> list[str]:
    """Start `count` workers on this machine's devices in turn, one per device by default, and return their names.

    Each worker computes with `threads` threads at most; by default the workers divide the cores.
    """
    devices = machine.devices()
    if (named := _setting("DEVICE")) not in (None, "auto"):
        devices = (named,)
    wanted = len(devices) if count is None else count
    env = _threads(wanted) if threads is None else {"OMP_NUM_THREADS": str(threads)}
    names: list[str] = []
    for index in range(wanted):
        device = devices[index % len(devices)]
        name = _name(device, index)
        family.start_worker(name, address.url, device, env)
        names.append(name)
    return names


def _name(device: str, index: int) -> str:
    """Return the label of a worker: that of the environment, or its device, and a number."""
    name = f"{_setting('LABEL') or device.replace(':', '')}-{index}"
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"]
        raise typer.BadParameter(
            f"TRIMTAB_WORKER_LABEL makes the name {name!r}: {why}"
        ) from None


def _setting(name: str) -> str | None:
    return os.environ.get(WORKER_SETTING + name) or None


def _threads(workers: int) -> dict[str, str]:
    """Return the settings that divide the cores among the workers; a setting of the user takes precedence."""
    if workers < 2:
        return {}
    each = max(1, cores.usable() // workers)
    return {"OMP_NUM_THREADS": str(each), **cores.waiting(os.environ, shared=True)}


def _welcome(address: Address, workers: list[str], data_dir: Path) -> list[tuple[str, str]]:
    server = "" if address.url.endswith(f":{DEFAULT_PORT}") else f" --server {address.url}"
    return [
        ("service", address.url),
        ("dashboard", address.dashboard),
        ("workers", ", ".join(workers) or "none"),
        ("logs", str(data_dir / "logs")),
        ("try", f"{terminal.program()} study create -f study.yaml --watch{server}"),
        HOW_TO_STOP,
    ]
