"""`python -P -m worker start | predict | pretrain`: what a person or a launcher starts on a machine."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import stamina
from pydantic import ValidationError

from trimtab import lifeline
from trimtab.client import Client
from trimtab.contract import problems
from worker import settings as worker_settings
from worker.agent import Agent, CannotWork, Plan
from worker.attempt import Limits
from worker.runner_process import command
from worker.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from worker.training.export import Prediction

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
    # The agent says itself what is unreachable, once and in words.
    stamina.instrumentation.set_on_retry_hooks([])
    match arguments.verb:
        case "start":
            return _start(arguments)
        case "predict":
            return _predict(arguments)
        case _:
            return _pretrain(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m worker", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_start(verbs.add_parser("start", help="work for a service until told to leave"))
    _add_predict(verbs.add_parser("predict", help="classify pictures with an exported model"))
    _add_pretrain(verbs.add_parser("pretrain", help="make the weights of our own backbone"))
    return parser


def _add_start(start: argparse.ArgumentParser) -> None:
    start.add_argument("--server", metavar="URL", help="default: TRIMTAB_SERVER, else loopback")
    start.add_argument("--label", metavar="NAME", help="default: the name of this machine")
    start.add_argument("--device", metavar="DEVICE", help="auto, cpu or cuda:N; default: auto")
    start.add_argument(
        "--cache-dir", metavar="DIR", type=Path, help="default: ~/.cache/trimtab"
    )
    start.add_argument(
        "--exit-when-idle", metavar="S", type=float, help="leave after S seconds without work"
    )
    start.add_argument("--lifeline", metavar="FD", type=int, help=argparse.SUPPRESS)


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("--model", metavar="FILE", type=Path, required=True)
    predict.add_argument("--json", action="store_true", help="one JSON object a line")
    predict.add_argument("images", metavar="IMAGE", type=Path, nargs="*")
    predict.add_argument("--builtin", choices=["digits"], help="a picture of this data set")
    predict.add_argument("--index", metavar="N", type=int, default=0, help="which of them")


def _add_pretrain(pretrain: argparse.ArgumentParser) -> None:
    pretrain.add_argument("what", choices=["glyphs"])
    pretrain.add_argument("--out", metavar="DIR", type=Path, required=True)
    pretrain.add_argument("--epochs", metavar="N", type=int, default=20)
    pretrain.add_argument("--seed", metavar="S", type=int, default=0)


# start


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
        _complain("; ".join(_in_words(error)))
        return USAGE
    token = None if settings.token is None else settings.token.get_secret_value()
    try:
        client = Client(settings.server, token, timeout_s=TIMEOUT_S, retry_for_s=RETRY_FOR_S)
        with client:
            _work(Agent(client, _plan(settings)), arguments.lifeline)
    except problems.Unreachable as error:
        _complain(str(error))
        return UNREACHABLE
    except (CannotWork, problems.Problem) as error:
        _complain(str(error))
        return FAILED
    return OK


def _plan(settings: Settings) -> Plan:
    runner = ("--device", settings.device, "--cache-dir", str(settings.cache_dir))
    return Plan(
        server=settings.server.rstrip("/"),
        label=settings.label,
        cache_dir=settings.cache_dir,
        runner=command(settings.runner, runner),
        limits=Limits(stall_s=settings.stall_s, grace_s=settings.grace_s),
        exit_when_idle_s=settings.exit_when_idle_s,
    )


def _work(agent: Agent, lifeline_fd: int | None) -> None:
    if lifeline_fd is not None:
        lifeline.watch(lifeline_fd, agent.leave)
    with _signals_to(agent):
        agent.run()


@contextmanager
def _signals_to(agent: Agent) -> Generator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda number, _: _on_signal(agent, number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_signal(agent: Agent, number: int) -> None:
    """Leave in good order; asked a second time, at once. The runner's lifeline ends it."""
    if agent.is_leaving:
        os._exit(128 + number)
    agent.leave()


# predict, pretrain


def _predict(arguments: argparse.Namespace) -> int:
    if bool(arguments.images) == bool(arguments.builtin):
        _complain("give either pictures or --builtin digits --index N")
        return USAGE
    # Imported here because torch costs seconds, and the other verbs do without.
    from worker.data.errors import DataError
    from worker.training.errors import TrainingError
    from worker.training.export import load_exported

    try:
        pictures = _digit(arguments.index) if arguments.builtin else _files(arguments.images)
        predictor = load_exported(arguments.model)
        predictions = predictor.predict([picture.content for picture in pictures])
    except (TrainingError, DataError, IndexError) as error:
        _complain(str(error))
        return FAILED
    for picture, prediction in zip(pictures, predictions, strict=True):
        told = _told(picture, prediction)
        _say(json.dumps(told) if arguments.json else _as_line(told))
    return OK


@dataclass(frozen=True)
class _Picture:
    name: str
    content: "Path | Image"
    label: str | None = None


def _files(paths: Sequence[Path]) -> list[_Picture]:
    return [_Picture(str(path), path) for path in paths]


def _digit(index: int) -> list[_Picture]:
    from worker.data.digits import Digits

    digits = Digits()
    if not 0 <= index < len(digits.samples):
        raise IndexError(f"--index: digits has the pictures 0 to {len(digits.samples) - 1}")
    sample = digits.samples[index]
    return [_Picture(f"digits {index}", digits.read(sample), digits.classes[sample.label])]


def _told(picture: _Picture, prediction: "Prediction") -> dict[str, object]:
    label = {} if picture.label is None else {"label": picture.label}
    return {
        "image": picture.name,
        "class": prediction.class_name,
        "probability": prediction.probabilities[prediction.class_name],
        **label,
        "probabilities": dict(prediction.probabilities),
    }


def _as_line(told: Mapping[str, object]) -> str:
    label = f" (it is {told['label']})" if "label" in told else ""
    return f"{told['image']}: {told['class']}, probability {told['probability']:.3f}{label}"


def _pretrain(arguments: argparse.Namespace) -> int:
    # Imported here for the same reason.
    from worker.pretrain import pretrain_glyphs
    from worker.training.fit import EpochResult

    if arguments.epochs < 1:
        _complain("--epochs must be 1 or more")
        return USAGE

    def progress(epoch: EpochResult) -> None:
        _say(f"epoch {epoch.epoch}: validation accuracy {epoch.validation_accuracy:.4f}")

    try:
        path = pretrain_glyphs(
            arguments.out, epochs=arguments.epochs, seed=arguments.seed, progress=progress
        )
    except OSError as error:
        _complain(str(error))
        return FAILED
    _say(str(path))
    return OK


# Words


def _in_words(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_input=False)
    ]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _complain(message: str) -> None:
    sys.stderr.write(f"worker: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
