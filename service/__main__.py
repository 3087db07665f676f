"""`python -P -m service`: listen until told to leave.

When it listens, it prints one line of JSON on standard output: `{"url": ..., "dashboard": ...}`. Logs go to standard
error. It leaves in good order on SIGTERM, SIGINT, or the end of its lifeline; at once on the second signal.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn
from pydantic import SecretStr, ValidationError

from service import embedded, logs
from service.app import create_app
from service.embedded import EmbeddedPostgresError
from service.housekeeping import Readiness
from service.settings import Settings
from service.storage.foreign import DatabaseRefused
from trimtab import lifeline

GRACE_S = 3
"""For requests in flight; an open event stream would hold the shutdown for ever."""
KEEP_ALIVE_S = 75
"""Longer than a worker is silent between two reports or heartbeats, or each of them would connect anew, and some would meet
a connection that is just being closed."""


class Server(uvicorn.Server):
    """A uvicorn that announces itself, and whose signals end it without killing the process afterwards.

    Args:
        config: uvicorn's configuration.
        leave: is called with the first signal.
        drain_s: seconds from then until it listens no more.
    """

    def __init__(
        self, config: uvicorn.Config, leave: Callable[[], None], drain_s: float
    ) -> None:
        super().__init__(config)
        self._leave = leave
        self._drain_s = drain_s
        self._is_leaving = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print where."""
        await super().startup(sockets)
        if self.started and sockets:
            print(json.dumps(announcement(sockets[0])), flush=True)  # noqa: T201 - it is the protocol

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave in good order on the first signal, at once on the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        yield

    def leave_now(self) -> None:
        """Leave without draining, for nobody is left to ask; from any thread."""
        self._leave()
        self.should_exit = True

    def _on_signal(self) -> None:
        if self._is_leaving:
            self.should_exit = self.force_exit = True
            return
        self._is_leaving = True
        self._leave()
        asyncio.get_running_loop().call_later(
            self._drain_s, partial(setattr, self, "should_exit", True)
        )


def announcement(listening: socket.socket) -> dict[str, str]:
    """What a starter needs to know."""
    host, port = listening.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - shown, not bound
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    return {"url": url, "dashboard": f"{url}/dashboard"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; 0 after an orderly end, 1 when it cannot start, 2 for bad settings."""
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in fault["loc"]) or "settings"
            _say(f"{where}: {fault['msg'].removeprefix('Value error, ')}")
        return 2
    logs.configure()
    try:
        _serve(settings, arguments.lifeline)
    except (EmbeddedPostgresError, DatabaseRefused, OSError, ValueError) as error:
        _say(str(error))
        return 1
    return 0


def _serve(settings: Settings, lifeline_fd: int | None) -> None:
    config = uvicorn.Config(
        "",  # replaced below, once there is a database
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks for a client's address
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        # No `limit_concurrency`: it counts connections that are idle, and a thousand workers keep one or two each.
    )
    _open_many_files()
    with _listening(settings) as listening, contextlib.ExitStack() as stack:
        if settings.database_url is None:
            postgres = stack.enter_context(
                embedded.running(
                    settings.data_dir, on_lost=lambda: os.kill(os.getpid(), signal.SIGTERM)
                )
            )
            settings = settings.model_copy(update={"database_url": SecretStr(postgres.url)})
        readiness = Readiness()
        config.app = create_app(settings, readiness)
        _collect_seldom()
        server = Server(config, readiness.leave, settings.drain_s)
        refused = threading.Event()

        def give_up() -> None:
            refused.set()
            server.leave_now()

        readiness.give_up = give_up
        if lifeline_fd is not None:
            lifeline.watch(lifeline_fd, server.leave_now)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listening]))
    if refused.is_set():
        raise DatabaseRefused(readiness.fatal)


def _open_many_files() -> None:
    """Let this process have as many connections as it may: a shell's soft limit is often 1,024 files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _collect_seldom() -> None:
    """Make Python look for cycles among what is new only.

    What was imported stays, and a history of 50,000 trials has no cycles: looking through all of that again and again
    took two thirds of the time of loading it, and stopped every other thread meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
            ) from error
        yield listening


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {
        name: value
        for name in ("host", "port", "data_dir")
        if (value := getattr(arguments, name)) is not None
    }
    return Settings(**given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host", help="address to listen on (TRIMTAB_HOST; 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port, 0 for any free one (TRIMTAB_PORT; 8000)"
    )
    parser.add_argument(
        "--data-dir", type=Path, help="database and artifacts (TRIMTAB_DATA_DIR)"
    )
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    return parser


def _say(text: str) -> None:
    print(f"trimtab: {text}", file=sys.stderr)  # noqa: T201 - a person reads it


if __name__ == "__main__":
    sys.exit(main())
