"""`worker launch`: its options, and the launcher that they name."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from trimtab.loopback import is_loopback
from worker.launchers import slurm
from worker.launchers.launch import CannotLaunch, Launch, checked_token_file

OURS = {"--server", "--token-file", "--label"}
"""Options of `worker start` that the launcher itself sets."""


def add(launch: argparse.ArgumentParser) -> None:
    """Add the options of `worker launch`."""
    engine = launch.add_mutually_exclusive_group(required=True)
    engine.add_argument("--slurm", action="store_true", help="an array of Slurm jobs")
    launch.add_argument("--server", metavar="URL", required=True)
    launch.add_argument("--token-file", metavar="FILE", type=Path)
    launch.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    launch.add_argument("--workers", metavar="N", type=_count, default=1)
    launch.add_argument("--at-once", metavar="N", type=_count)
    launch.add_argument("--partition", metavar="NAME")
    launch.add_argument("--time", metavar="LIMIT")
    launch.add_argument("--cpus", metavar="N", type=_count)
    launch.add_argument("--gres", metavar="GRES", default="gpu:1")
    launch.add_argument("--sbatch", metavar="OPTION", action="append", default=[])
    launch.add_argument("options", metavar="OPTION", nargs="*", help="of `worker start`")


def run(
    arguments: argparse.Namespace,
    check: Callable[[Sequence[str]], object],
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    """Start workers, or print what would be submitted.

    Args:
        arguments: The parsed options.
        check: Refuses the words of a `worker start` that is wrong.
        say: Prints an answer.
        warn: Prints a warning.

    Raises:
        CannotLaunch: nothing was started; the message says why.
        token_files.TokenUnusable: the file of the token cannot be used.
    """
    taken = OURS.intersection(option.partition("=")[0] for option in arguments.options)
    if taken:
        raise CannotLaunch(f"{min(taken)} is the launcher's own: give it before the `--`")
    launch = Launch(
        arguments.server, checked_token_file(arguments.token_file), arguments.options
    )
    words = launch.command()
    check(words[words.index("start") :])
    if is_loopback(urlsplit(launch.server).hostname or ""):
        warn(
            f"{launch.server} is an address of this machine alone: workers elsewhere cannot reach it"
        )
    array = _array(arguments)
    say(slurm.script(launch, array) if arguments.dry_run else slurm.submit(launch, array))


def _array(arguments: argparse.Namespace) -> slurm.Array:
    for value in (arguments.partition, arguments.time, arguments.gres, *arguments.sbatch):
        if value is not None and (not value.strip() or "\n" in value):
            raise CannotLaunch(f"{value!r} is no option of sbatch: it must be one line")
    return slurm.Array(
        jobs=arguments.workers,
        at_once=arguments.at_once,
        partition=arguments.partition,
        time=arguments.time,
        cpus=arguments.cpus,
        gres=arguments.gres,
        extra=[option.lstrip("-") for option in arguments.sbatch],
    )


def _count(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
