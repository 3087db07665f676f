"""`python -P -m worker start | predict | pretrain`: what a person or a launcher starts on a machine."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from trimtab import lifeline
from trimtab.client import Client
from trimtab.contract import problems
from worker import settings as worker_settings
from worker.agent import Agent, CannotWork, Plan
from worker.attempt import Limits
from worker.runner_process import command
from worker.settings import Settings

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
TIMEOUT_S = 10.0
RETRY_FOR_S = 1.0
"""Enough for a connection that was just being closed; the agent itself is patient with what lasts longer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the process's exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return _start(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start", help="work for a service until told to leave")
    start.add_argument(
        "--server", metavar="URL", help="default: TRIMTAB_SERVER, else http://127.0.0.1:8000"
    )
    start.add_argument(
        "--label",
        metavar="NAME",
        help="how the service lists this worker; default: the host's name",
    )
    start.add_argument("--device", metavar="DEVICE", help="auto, cpu or cuda:N; default: auto")
    start.add_argument(
        "--cache-dir", metavar="DIR", type=Path, help="default: ~/.cache/trimtab"
    )
    start.add_argument(
        "--exit-when-idle",
        metavar="S",
        type=float,
        help="leave after so many seconds without work",
    )
    start.add_argument("--lifeline", metavar="FD", type=int, help=argparse.SUPPRESS)
    return parser


def _start(arguments: argparse.Namespace) -> int:
    try:
        settings = worker_settings.load(
            server=arguments.server,
            label=arguments.label,
            device=arguments.device,
            cache_dir=arguments.cache_dir,
            exit_when_idle_s=arguments.exit_when_idle,
        )
    except ValidationError as error:
        for fault in error.errors():
            where = ".".join(str(part) for part in fault["loc"])
            print(f"worker: {where}: {fault['msg']}", file=sys.stderr)  # noqa: T201
        return USAGE
    token = None if settings.token is None else settings.token.get_secret_value()
    try:
        client = Client(settings.server, token, timeout_s=TIMEOUT_S, retry_for_s=RETRY_FOR_S)
    except problems.Problem as problem:
        return _complain(problem)
    with client:
        return _work(Agent(client, _plan(settings)), arguments.lifeline)


def _plan(settings: Settings) -> Plan:
    runner = ("--device", settings.device, "--cache-dir", str(settings.cache_dir))
    return Plan(
        server=settings.server,
        label=settings.label,
        cache_dir=settings.cache_dir,
        runner=command(settings.runner, runner),
        limits=Limits(stall_s=settings.stall_s, grace_s=settings.grace_s),
        exit_when_idle_s=settings.exit_when_idle_s,
    )


def _work(agent: Agent, lifeline_fd: int | None) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: _on_signal(agent, number, frame))
    if lifeline_fd is not None:
        lifeline.watch(lifeline_fd, agent.leave)
    try:
        agent.run()
    except (CannotWork, problems.Problem) as error:
        return _complain(error)
    return OK


def _on_signal(agent: Agent, number: int, _frame: FrameType | None) -> None:
    """Leave in good order; asked a second time, at once. The runner's lifeline ends it."""
    if agent.is_leaving:
        os._exit(128 + number)
    agent.leave()


def _complain(error: Exception) -> int:
    print(f"worker: {error}", file=sys.stderr)  # noqa: T201 - a command line speaks to its user
    return UNREACHABLE if isinstance(error, problems.Unreachable) else FAILED


if __name__ == "__main__":
    sys.exit(main())
