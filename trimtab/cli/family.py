"""The family of processes behind `up` and `demo`: one service and its workers, all on this machine."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from pydantic import ValidationError

from trimtab.cli.failures import EXIT_UNREACHABLE
from trimtab.cli.handover import command
from trimtab.cli.processes import Process, describe
from trimtab.client import Client
from trimtab.contract import problems
from trimtab.contract.message import Message

READY_S = 90.0

GRACE_S = 30.0
"""A worker that is told to leave stores a checkpoint first, in this time unless TRIMTAB_WORKER_GRACE_S says another."""

ENDING_S = 10.0
SERVICE_LEAVES_S = 20.0
RESTART_S = 1.0

STEADY_S = 30.0
"""A process that ran for this many seconds before it ended did not fail at its start."""

HOPELESS = 3
"""The number of failed starts in a row after which a process is not started again."""

SERVICE = "service"
WORKER_SETTING = "TRIMTAB_WORKER_"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leaves_within_s(env: Mapping[str, str]) -> float:
    """Return the seconds after which a worker that was told to leave is killed."""
    try:
        grace_s = float(env.get("TRIMTAB_WORKER_GRACE_S") or GRACE_S)
    except ValueError:
        # The workers refuse it, and say so.
        grace_s = GRACE_S
    # The last upload may take a quarter more, and the processes take a few seconds to end.
    return 1.25 * grace_s + ENDING_S


class Address(Message):
    """The line that the service prints once it listens."""

    url: str
    dashboard: str


class Asked(KeyboardInterrupt):
    """A signal asked this process to leave."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class Family:
    """Starts, watches and stops the processes; `say` shows a line to a person."""

    def __init__(
        self, data_dir: Path, env: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._data_dir = data_dir
        self._env = env
        self._say = say
        self._lock = threading.Lock()
        self._service: Process | None = None
        self._workers: dict[str, Process] = {}
        self._is_ready = threading.Event()
        self._is_leaving = threading.Event()
        self._trouble = threading.Event()
        self._problem: problems.Problem | None = None

    def start_service(self, host: str, port: int) -> Address:
        """Start the service, and return when it listens; once it has been ready, it is started again whenever it ends.

        Raises:
            problems.Unavailable: the service ended; the detail quotes its log.
        """
        service = self._new_service(host, port)
        line = service.read_line()
        try:
            address = Address.model_validate_json(line, extra="ignore")
        except ValidationError:
            service.leave(SERVICE_LEAVES_S)
            service.drain()
            raise problems.Unavailable(
                f"The service did not start. The end of its log {service.log}:\n{service.tail()}"
            ) from None
        port = urlsplit(address.url).port or port

        def again() -> Process | None:
            with self._lock:
                if self._is_leaving.is_set():
                    return None
                started = self._new_service(host, port)
            started.read_line()  # workers and clients know the address, which is the same
            return started

        threading.Thread(
            target=self._keep, args=[service, again, self._lose_service], daemon=True
        ).start()
        return address

    def _new_service(self, host: str, port: int) -> Process:
        argv = ["--host", host, "--port", str(port), "--data-dir", str(self._data_dir)]
        self._service = self._start(SERVICE, command("service", argv), self._env)
        return self._service

    def wait_until_ready(self, client: Client) -> None:
        """Wait until the service is ready, which includes its database.

        Raises:
            problems.Unavailable: the service ended, or is not ready in time.
        """
        deadline = time.monotonic() + READY_S
        while not client.is_ready():
            self._trouble.wait(0.1)
            self.check()
            if time.monotonic() > deadline:
                raise problems.Unavailable(
                    f"The service is not ready after {READY_S:.0f} s; its log is in {self._data_dir / 'logs'}."
                )
        self._is_ready.set()

    def start_worker(self, name: str, server: str, device: str, env: Mapping[str, str]) -> None:
        """Start a worker on a device, and start it again whenever it ends by itself.

        The settings of workers in this process's environment are its settings too.
        """
        argv = ["start", "--server", server, "--label", name, "--device", device]
        if not self._setting("CACHE_DIR"):
            argv += ["--cache-dir", str(self._data_dir / "cache")]

        def start() -> Process | None:
            with self._lock:
                if self._is_leaving.is_set():
                    return None
                whole = command("worker", argv)
                self._workers[name] = self._start(name, whole, {**env, **self._env})
                return self._workers[name]

        first = start()
        threading.Thread(
            target=self._keep, args=[first, start, self._lose_worker], daemon=True
        ).start()

    def check(self) -> None:
        """Raise the problem that stopped the service or all workers, if there is one."""
        if self._problem is not None and not self._is_leaving.is_set():
            raise self._problem

    @contextlib.contextmanager
    def explaining(self) -> Generator[None]:
        """Raise what stopped the service in the place of what a client of it met then."""
        try:
            yield
        except problems.Unreachable:
            self.check()
            raise

    def wait(self) -> None:
        """Wait until the service or all workers have ended, and raise the reason."""
        self._trouble.wait()
        self.check()

    def stop(self) -> None:
        """Stop all processes in good order: first the workers, then the service, which they need to hand over."""
        with self._lock:
            self._is_leaving.set()
        for worker in self._workers.values():
            worker.let_go()
        deadline = time.monotonic() + leaves_within_s(self._env)
        for worker in self._workers.values():
            worker.leave(max(0.0, deadline - time.monotonic()))
        if self._service is not None:
            self._service.leave(SERVICE_LEAVES_S)

    def kill(self) -> None:
        """Kill all processes."""
        self._is_leaving.set()
        for process in (*self._workers.values(), self._service):
            if process is not None:
                process.kill()

    @contextlib.contextmanager
    def until_asked(self) -> Generator[None]:
        """Run the body, and stop all processes in good order at its end, at Ctrl-C or at SIGTERM.

        A second signal kills them.

        Raises:
            Asked: a signal came.
        """

        def leave(number: int, _frame: FrameType | None) -> None:
            listen(hurry)
            raise Asked(number)

        def hurry(_number: int, _frame: FrameType | None) -> None:
            self.kill()

        def listen(handler: Callable[[int, FrameType | None], None]) -> None:
            for number in SIGNALS:
                signal.signal(number, handler)

        before = {number: signal.getsignal(number) for number in SIGNALS}
        listen(leave)
        try:
            yield
        except Asked:
            self._say("Stopping workers and service; press Ctrl-C again to kill them.")
            raise
        finally:
            listen(hurry)
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, name: str, argv: list[str], env: Mapping[str, str]) -> Process:
        return Process(name, argv, self._data_dir / "logs" / f"{name}.log", env)

    def _setting(self, name: str) -> str | None:
        """Return what the environment says of a setting of the workers; an empty one says nothing."""
        return self._env.get(WORKER_SETTING + name) or None

    def _keep(
        self,
        process: Process | None,
        start: Callable[[], Process | None],
        lose: Callable[[Process, int], None],
    ) -> None:
        """Start a process again whenever it ends by itself, and lose it when that is in vain."""
        failures = 0
        while process is not None:
            begun = time.monotonic()
            process.drain()
            code = process.wait()
            if self._is_leaving.is_set():
                return
            # That the service does not answer is no fault of a worker's: it may be starting again itself.
            if code != EXIT_UNREACHABLE:
                failures = failures + 1 if time.monotonic() - begun < STEADY_S else 0
            if failures >= HOPELESS or self._is_over(process, code):
                lose(process, code)
                return
            self._say(f"{_shown(process)} ended ({describe(code)}); starting it again.")
            self._is_leaving.wait(RESTART_S)
            process = start()

    def _is_over(self, process: Process, code: int) -> bool:
        """Whether a process that ended is not to be started again, however long it ran."""
        if process is self._service:
            return not self._is_ready.is_set()
        return code == 0 and self._setting("EXIT_WHEN_IDLE_S") is not None

    def _lose_service(self, service: Process, code: int) -> None:
        again = (
            f" {HOPELESS} times in a row, each time soon after it was started"
            if self._is_ready.is_set()
            else ""
        )
        self._fail(
            f"The service ended{again} ({describe(code)}). The end of its log {service.log}:\n{service.tail()}"
        )

    def _lose_worker(self, worker: Process, code: int) -> None:
        with self._lock:
            del self._workers[worker.name]
            alone = not self._workers
        if self._is_over(worker, code):
            self._say(f"Worker {worker.name} left: there was no work for it.")
            return
        what = (
            f"Worker {worker.name} failed at its start {HOPELESS} times in a row ({describe(code)}) and is not started "
            f"again. The end of its log {worker.log}:\n{worker.tail()}"
        )
        if alone:
            self._fail(what)
        else:
            self._say(what)

    def _fail(self, what: str) -> None:
        self._problem = problems.Unavailable(what)
        self._trouble.set()


def _shown(process: Process) -> str:
    return "The service" if process.name == SERVICE else f"Worker {process.name}"
