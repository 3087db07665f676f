"""`worker launch`: its options, and the launcher that they name."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from trimtab.loopback import is_loopback
from worker import token_files
from worker.launchers import ray_cluster, slurm, ssh
from worker.launchers.launch import CannotLaunch, Launch, checked_token_file

OURS = {"--server", "--token-file"}
"""Options of `worker start` that the launcher itself sets."""


def add(launch: argparse.ArgumentParser) -> None:
    """Add the options of `worker launch`."""
    engine = launch.add_mutually_exclusive_group(required=True)
    engine.add_argument("--slurm", action="store_true", help="an array of Slurm jobs")
    engine.add_argument("--ssh", metavar="HOST", action="append", help="a host of ssh's")
    engine.add_argument("--ray", action="store_true", help="actors on a cluster of Ray")
    launch.add_argument("--server", metavar="URL", required=True)
    launch.add_argument("--token-file", metavar="FILE", type=Path)
    launch.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    launch.add_argument("--workers", metavar="N", type=_count)
    launch.add_argument("--at-once", metavar="N", type=_count)
    launch.add_argument("--partition", metavar="NAME")
    launch.add_argument("--time", metavar="LIMIT")
    launch.add_argument("--cpus", metavar="N", type=_count)
    launch.add_argument("--gres", metavar="GRES", default="gpu:1")
    launch.add_argument("--sbatch", metavar="OPTION", action="append", default=[])
    launch.add_argument("--program", metavar="TRIMTAB", default="trimtab")
    launch.add_argument("--address", metavar="ADDRESS", default=ray_cluster.AUTO)
    launch.add_argument("--gpus", metavar="N", type=_share, default=1.0)
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
        CannotLaunch: nothing was started, or not everything; the message says why.
        token_files.TokenUnusable: the file of the token cannot be used.
    """
    ours = OURS if arguments.ssh else OURS | {"--label"}
    taken = ours.intersection(option.partition("=")[0] for option in arguments.options)
    if taken:
        raise CannotLaunch(f"{min(taken)} is the launcher's own: give it before the `--`")
    launch = Launch(arguments.server, None, arguments.options)
    words = launch.command()
    check(words[words.index("start") :])
    answers = _launcher(arguments)(arguments, launch)
    if is_loopback(urlsplit(launch.server).hostname or ""):
        warn(
            f"{launch.server} is an address of this machine alone: workers elsewhere cannot reach it"
        )
    for answer in answers:
        say(answer)


def _launcher(
    arguments: argparse.Namespace,
) -> Callable[[argparse.Namespace, Launch], Sequence[str]]:
    if arguments.slurm:
        return _slurm
    return _ray if arguments.ray else _ssh


def _ray(arguments: argparse.Namespace, launch: Launch) -> Sequence[str]:
    whole = replace(launch, token_file=checked_token_file(arguments.token_file))
    actors = ray_cluster.Actors(
        arguments.workers or 1, num_gpus=arguments.gpus, num_cpus=arguments.cpus or 1
    )
    if arguments.dry_run:
        return [ray_cluster.plan(whole, actors)]
    return [ray_cluster.start(whole, actors, arguments.address)]


def _slurm(arguments: argparse.Namespace, launch: Launch) -> Sequence[str]:
    whole = replace(launch, token_file=checked_token_file(arguments.token_file))
    array = _array(arguments)
    return [slurm.script(whole, array) if arguments.dry_run else slurm.submit(whole, array)]


def _array(arguments: argparse.Namespace) -> slurm.Array:
    for value in (arguments.partition, arguments.time, arguments.gres, *arguments.sbatch):
        if value is not None and (not value.strip() or "\n" in value):
            raise CannotLaunch(f"{value!r} is no option of sbatch: it must be one line")
    return slurm.Array(
        jobs=arguments.workers or 1,
        at_once=arguments.at_once,
        partition=arguments.partition,
        time=arguments.time,
        cpus=arguments.cpus,
        gres=arguments.gres,
        extra=[option.lstrip("-") for option in arguments.sbatch],
    )


def _ssh(arguments: argparse.Namespace, launch: Launch) -> Sequence[str]:
    for host in arguments.ssh:
        if not host or host.startswith("-") or any(one.isspace() for one in host):
            raise CannotLaunch(
                f"{host!r} is no host: it is written as ssh takes it, such as gpu-1 or me@gpu-1"
            )
    token = _token(arguments.token_file)
    if arguments.dry_run:
        hidden = None if token is None else ssh.HIDDEN
        shown = ssh.script(launch, hidden, arguments.workers, arguments.program)
        return [f"# by the standard input of ssh, for {', '.join(arguments.ssh)}:\n{shown}"]
    return ssh.start(
        arguments.ssh, ssh.script(launch, token, arguments.workers, arguments.program)
    )


def _token(path: Path | None) -> str | None:
    """Return the token to send; by ssh's standard input, that of the environment may go too."""
    if path is not None:
        return token_files.read(path)
    given = os.environ.get("TRIMTAB_TOKEN")
    return None if not given else token_files.checked(given, "TRIMTAB_TOKEN")


def _share(given: str) -> float:
    number = float(given)
    if not 0 <= number < float("inf") or (number > 1 and number != int(number)):
        raise argparse.ArgumentTypeError("must be 0, a part of 1, or a whole number")
    return number


def _count(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
