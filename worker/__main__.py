"""`python -P -m worker start | launch | predict | pretrain`: the worker's command line."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import stamina
from pydantic import ValidationError

from trimtab import cores, lifeline
from trimtab.client import Client
from trimtab.contract import problems
from worker import by_hand, devices, signals, token_files
from worker import settings as worker_settings
from worker.agent import environment, supervisor
from worker.agent.agent import Agent, Plan
from worker.agent.runner_process import command
from worker.agent.stall_detector import Timeouts
from worker.agent.warm_runner import CannotWork
from worker.launchers import arguments as launching
from worker.launchers.launch import CannotLaunch
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.commands import predict

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
STANDARD_INPUT = "-"
NO_ROOTS = (
    "{} is not on this machine, and its users could make this worker read any file: set TRIMTAB_WORKER_ROOTS to the "
    "folders of data sets and weights, with : between them; / allows all"
)
TIMEOUT_S = 10.0
RETRY_FOR_S = 1.0
"""Enough for a connection that the service was just closing; longer outages are the agent's to wait for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # The agent logs what is unreachable itself; the retries' own messages would repeat it.
    stamina.instrumentation.set_on_retry_hooks([])
    if arguments.verb == "start":
        return _start(arguments)
    if arguments.verb == "launch":
        return _launch(arguments)
    return _by_hand(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m worker", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_start(verbs.add_parser("start", help="run trials of a service until told to leave"))
    launching.add(verbs.add_parser("launch", help="start workers where an engine runs them"))
    by_hand.add_predict(
        verbs.add_parser("predict", help="predict pictures or texts with an exported model")
    )
    by_hand.add_pretrain(verbs.add_parser("pretrain", help="pretrain the backbone glyphnet"))
    return parser


def _add_start(start: argparse.ArgumentParser) -> None:
    start.add_argument("--server", metavar="URL", help="default: TRIMTAB_SERVER, else loopback")
    start.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="a file with the token that only its owner can read; default: TRIMTAB_TOKEN",
    )
    start.add_argument("--label", metavar="NAME", help="default: the name of this machine")
    start.add_argument("--device", metavar="DEVICE", help="auto, cpu or cuda:N; default: auto")
    start.add_argument(
        "--devices",
        metavar="N",
        type=int,
        help="devices, from that one on, to train a trial on if its study needs several; default: 1",
    )
    start.add_argument(
        "--cache-dir", metavar="DIR", type=Path, help="default: ~/.cache/trimtab"
    )
    by_hand.add_backbones(start)
    start.add_argument(
        "--exit-when-idle", metavar="S", type=float, help="leave after S seconds without work"
    )
    start.add_argument(
        "--grace",
        metavar="S",
        type=float,
        help="seconds to store a checkpoint in when told to leave; default: 30",
    )
    start.add_argument(
        "--slots", metavar="N", type=int, help="trials at a time on the device; default: 1"
    )
    start.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads that compute on the CPU; default: what is fastest, as measured",
    )
    start.add_argument(
        "--together", metavar="N", type=int, help="heads trained in one computation; default: 8"
    )
    start.add_argument(
        "--cache-gb",
        metavar="GB",
        type=float,
        help="bound of data, decoded samples and features on disk; default: 10 GB stay free, or a tenth",
    )
    start.add_argument("--one-of", metavar="N", type=int, help=argparse.SUPPRESS)
    start.add_argument("--lifeline", metavar="FD", type=int, help=argparse.SUPPRESS)


# start


def _load(arguments: argparse.Namespace) -> Settings:
    return worker_settings.load(
        server=arguments.server,
        token_file=arguments.token_file,
        label=arguments.label,
        device=arguments.device,
        cache_dir=arguments.cache_dir,
        backbones=arguments.backbones,
        exit_when_idle_s=arguments.exit_when_idle,
        grace_s=arguments.grace,
        slots=arguments.slots,
        devices=arguments.devices,
        threads=arguments.threads,
        together=arguments.together,
        cache_gb=arguments.cache_gb,
    )


def _start(arguments: argparse.Namespace) -> int:
    try:
        settings = _load(arguments)
    except ValidationError as error:
        _complain("; ".join(_in_words(error)))
        return USAGE
    if settings.lacks_roots:
        _complain(NO_ROOTS.format(settings.server))
        return USAGE
    try:
        token = _token(settings)
    except token_files.TokenUnusable as error:
        _complain(str(error))
        return USAGE
    if settings.slots > 1 and arguments.one_of is None:
        return _start_each(settings, arguments.lifeline)
    try:
        client = Client(settings.server, token, timeout_s=TIMEOUT_S, retry_for_s=RETRY_FOR_S)
        with client:
            _work(Agent(client, _plan(settings, arguments.one_of or 1)), arguments.lifeline)
    except problems.Unreachable as error:
        _complain(str(error))
        return UNREACHABLE
    except (CannotWork, problems.Problem) as error:
        _complain(str(error))
        return FAILED
    return OK


def _token(settings: Settings) -> str | None:
    if settings.token_file is not None:
        return token_files.read(settings.token_file)
    return None if settings.token is None else settings.token.get_secret_value()


def _start_each(settings: Settings, lifeline_fd: int | None) -> int:
    options = ["--server", settings.server, "--device", settings.device]
    options += ["--cache-dir", str(settings.cache_dir), "--together", str(settings.together)]
    options += ["--devices", str(settings.devices)]
    options += [f"--backbones={file}" for file in settings.backbones]
    options += ["--grace", str(settings.grace_s)]
    if settings.token_file is not None:
        options += ["--token-file", str(settings.token_file)]
    if settings.cache_gb is not None:
        options += ["--cache-gb", str(settings.cache_gb)]
    if settings.threads is not None:
        options += ["--threads", str(settings.threads)]
    if settings.exit_when_idle_s is not None:
        options += ["--exit-when-idle", str(settings.exit_when_idle_s)]
    try:
        return supervisor.run(options, settings.label, settings.slots, lifeline_fd)
    except devices.TooManySlots as error:
        _complain(str(error))
        return USAGE


def _plan(settings: Settings, slots: int) -> Plan:
    runner = (
        *("--device", settings.device, "--cache-dir", str(settings.cache_dir)),
        *("--feature-cache-bytes", str(settings.feature_cache_bytes)),
        *(f"--backbones={file}" for file in settings.backbones),
        *(f"--root={folder}" for folder in settings.roots),
        *(("--download",) if settings.download else ()),
        *("--slots", str(slots), "--devices", str(settings.devices)),
        *(() if settings.cache_bytes is None else ("--cache-bytes", str(settings.cache_bytes))),
        *(() if settings.threads is None else ("--threads", str(settings.threads))),
    )
    return Plan(
        server=settings.server.rstrip("/"),
        label=settings.label,
        cache_dir=settings.cache_dir,
        runner=command(settings.runner, runner),
        runner_environment={
            **environment.handed_on(os.environ, settings.environment),
            **cores.waiting(os.environ, shared=slots * settings.devices > 1),
        },
        timeouts=Timeouts(stall_s=settings.stall_s, grace_s=settings.grace_s),
        exit_when_idle_s=settings.exit_when_idle_s,
        together=settings.together,
        cache_bytes=settings.cache_bytes,
        allowed=settings.allowed,
    )


def _work(agent: Agent, lifeline_fd: int | None) -> None:
    if lifeline_fd is not None:
        lifeline.watch(lifeline_fd, agent.leave)
    with _signals_to(agent):
        agent.run()


@contextmanager
def _signals_to(agent: Agent) -> Generator[None]:
    told: list[int] = []
    before = {number: signal.getsignal(number) for number in signals.LEAVE}
    for number in before:
        signal.signal(number, lambda number, _: _on_signal(agent, number, told))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(agent: Agent, number: int, told: list[int]) -> None:
    """Let the agent drain; at a second word of a person, leave at once.

    Args:
        agent: The agent.
        number: The signal.
        told: The signals so far that were no mere notice.
    """
    if number not in signals.NOTICES:
        if told:
            # Without clean-up: the runner ends by itself, because its lifeline reads end-of-file.
            os._exit(128 + number)
        told.append(number)
    if not agent.is_leaving:
        agent.leave()


# launch


def _launch(arguments: argparse.Namespace) -> int:
    try:
        launching.run(
            arguments,
            check=_check_start,
            say=_say,
            warn=_complain,
        )
    except ValidationError as error:
        _complain("; ".join(_in_words(error)))
        return USAGE
    except (CannotLaunch, token_files.TokenUnusable) as error:
        _complain(str(error))
        return USAGE if isinstance(error, token_files.TokenUnusable) else FAILED
    return OK


def _check_start(words: Sequence[str]) -> None:
    """Refuse what every worker that is launched would refuse, before any is.

    Raises:
        CannotLaunch: a setting is wrong, or there is none of the folders that studies may name.
    """
    settings = _load(_parser().parse_args(words))
    if settings.lacks_roots:
        raise CannotLaunch(NO_ROOTS.format(settings.server))


# predict, pretrain


def _by_hand(arguments: argparse.Namespace) -> int:
    wrong = _wrong_usage(arguments)
    if wrong is not None:
        _complain(wrong)
        return USAGE
    os.environ.update(cores.waiting(os.environ, shared=False))
    # Imported here because torch takes seconds to import, and `start` runs the agent, which never uses it.
    from worker.commands import predict, pretrain

    try:
        if arguments.verb == "pretrain":
            pretrain.pretrain(arguments.out, epochs=arguments.epochs, seed=arguments.seed)
        else:
            files = worker_settings.load(backbones=arguments.backbones).backbones
            for line in predict.predict(
                arguments.model,
                _samples(arguments),
                as_json=arguments.json,
                backbones=files,
                skip_bad=arguments.skip_bad,
                told=_complain,
            ):
                sys.stdout.write(f"{line}\n")
    except predict.MISTAKES as error:
        _complain(str(error))
        return FAILED
    return OK


def _samples(arguments: argparse.Namespace) -> "Iterable[predict.Sample]":
    from worker.commands import predict, predict_texts  # As above.
    from worker.training.model.export import read_card

    digit = predict.digit(arguments.index) if arguments.builtin else None
    given, card = arguments.samples, read_card(arguments.model)
    if not predict_texts.reads_texts(card):
        if arguments.file or given == [STANDARD_INPUT]:
            raise predict.NothingThere(
                f"{arguments.model}: this model sees pictures: give files or folders of them"
            )
        return digit or predict.files([Path(name) for name in given], _complain)
    if digit:
        raise predict_texts.WrongInput(
            f"{arguments.model}: this model reads texts, and {arguments.builtin} has pictures"
        )
    if arguments.file:
        return predict_texts.table(card, arguments.file, arguments.text or ())
    if given == [STANDARD_INPUT]:
        return predict_texts.lines(card, sys.stdin.buffer)
    return predict_texts.words(card, given)


def _wrong_usage(arguments: argparse.Namespace) -> str | None:
    if arguments.verb == "predict":
        given = (arguments.samples, arguments.builtin, arguments.file)
        if sum(map(bool, given)) != 1:
            return (
                "give one of these: pictures or texts, --file TABLE, --builtin digits --index N"
            )
    if arguments.verb == "pretrain" and arguments.epochs < 1:
        return "--epochs must be 1 or more"
    return None


# Messages


def _in_words(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False)
    ]


def _say(answer: str) -> None:
    sys.stdout.write(f"{answer}\n")


def _complain(message: str) -> None:
    sys.stderr.write(f"worker: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
