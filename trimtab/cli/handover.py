"""Commands of the service and the worker: this process is replaced by theirs, which gets its signals and exit code."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from trimtab.cli import terminal
from trimtab.client.client import address_of

Backbones = Annotated[
    list[Path] | None,
    typer.Option(
        help="A Python file that registers your backbones; may be given more than once.",
        show_default=False,
    ),
]


def server(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option(
            envvar="TRIMTAB_HOST",
            help="Where to listen; anything but loopback needs TRIMTAB_TOKEN. Default: 127.0.0.1.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="TRIMTAB_PORT", min=0, max=65535, help="0 takes any free one. Default: 8000."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="TRIMTAB_DATA_DIR",
            help="The embedded Postgres and the artifacts. Default: .trimtab.",
        ),
    ] = None,
) -> None:
    """Run the service alone: embedded Postgres (or TRIMTAB_DATABASE_URL), REST, dashboard."""
    argv = given("--host", host) + given("--port", port) + given("--data-dir", data_dir)
    become(terminal.of(context), "service", argv)


def start(
    context: typer.Context,
    label: Annotated[
        str | None,
        typer.Option(help="The name under which the service lists it.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (the default), cpu, cuda:0, cuda:1, ...")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Devices, from that one on, to train a trial on if its study needs several.",
            show_default="1",
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Decoded data sets and checkpoints.", show_default=False),
    ] = None,
    backbones: Backbones = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Trials at a time on the device.", show_default="1"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Threads that compute on the CPU.",
            show_default="what is fastest, as measured",
        ),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Heads trained in one computation.", show_default="8"),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the service's token that only you can read.", show_default=False
        ),
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(
            help="Bound of data, decoded samples and features on disk.",
            show_default="10 GB of the disk stay free, or a tenth",
        ),
    ] = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(help="Leave after this many seconds without work.", show_default=False),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            help="Seconds to store a checkpoint in when told to leave.", show_default="30"
        ),
    ] = None,
) -> None:
    """Run a worker: it takes trials from the service at --server until it is told to leave."""
    here = terminal.of(context)
    argv = ["start", "--server", address_of(here.server), *given("--device", device)]
    argv += given("--devices", devices)
    argv += given("--label", label) + given("--cache-dir", cache_dir)
    argv += _each("--backbones", backbones)
    argv += given("--token-file", token_file)
    argv += given("--slots", slots) + given("--threads", threads)
    argv += given("--together", together) + given("--cache-gb", cache_gb)
    argv += given("--exit-when-idle", exit_when_idle) + given("--grace", grace)
    become(here, "worker", argv)


def predict(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="A model that a study exported.")],
    samples: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures: files, folders, or patterns in quotes. Or texts in quotes; - reads them, one a line.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Predict the texts of this CSV or JSONL file.", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="The column of that file that holds texts, if it is not the one that was learned from; "
            "of pairs, give both.",
            show_default=False,
        ),
    ] = None,
    builtin: Annotated[
        Literal["digits"] | None,
        typer.Option(help="Predict an image of this data set instead.", show_default=False),
    ] = None,
    index: Annotated[
        int, typer.Option(min=0, help="The number of the image in that data set.")
    ] = 0,
    backbones: Backbones = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Name files that cannot be read, and succeed.")
    ] = False,
) -> None:
    """Predict pictures or texts with a model that a study exported."""
    if sum(map(bool, (samples, builtin, file))) != 1:
        raise typer.BadParameter(
            "give one of these: pictures or texts, --file, or --builtin", param_hint="SAMPLES"
        )
    argv = ["predict", "--model", str(model), *(["--json"] if json else [])]
    argv += ["--skip-bad"] if skip_bad else []
    argv += _each("--backbones", backbones)
    if builtin:
        argv += ["--builtin", builtin, "--index", str(index)]
    argv += given("--file", file) + _each("--text", text)
    become(terminal.of(context), "worker", [*argv, *(["--", *samples] if samples else [])])


def pretrain(
    context: typer.Context,
    what: Annotated[Literal["glyphs"], typer.Argument(help="The data to pretrain on.")],
    out: Annotated[Path, typer.Option(help="The folder for weights and model card.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the glyphs.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Same fonts, same seed, same bytes.")
    ] = None,
) -> None:
    """Pretrain glyphnet, the project's own backbone, on rendered glyphs."""
    argv = ["pretrain", what, "--out", str(out)]
    argv += given("--epochs", epochs) + given("--seed", seed)
    become(terminal.of(context), "worker", argv)


def command(module: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs one of our modules; -P prevents that a user's `worker.py` is run instead."""
    return [sys.executable, "-P", "-m", module, *argv]


def environment(token: str | None) -> dict[str, str]:
    """Return the environment of the programs that we start.

    The token is in it and not in their arguments, because every user of the machine can read those.
    """
    ours = {"TRIMTAB_TOKEN": token} if token else {}
    return {**os.environ, **ours}


def become(here: terminal.Terminal, module: str, argv: Sequence[str]) -> NoReturn:
    """Replace this process by one of our modules."""
    whole = command(module, argv)
    sys.stdout.flush()
    os.execve(whole[0], whole, environment(here.token))  # noqa: S606 - our own module, no shell wanted


def given(option: str, value: object) -> list[str]:
    """Return an option with its value, or nothing where it has none."""
    return [] if value is None else [option, str(value)]


def _each(option: str, values: Sequence[object] | None) -> list[str]:
    return [word for value in values or () for word in (option, str(value))]
