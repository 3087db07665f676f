"""The training process, seen from the agent: starts it, sends orders, kills it, explains its death.

Agent and runner talk over a pair of pipes that only these two processes hold, not over a port or a queue of a library.
When either process dies, however it dies, the other one reads end-of-file at once. No other process can connect.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from trimtab import lifeline
from trimtab.contract.leases import Failed
from worker import devices
from worker.agent.environment import handed_on
from worker.agent.events import RunnerExited, RunnerMessage
from worker.pipe_messages import Order, Sender, read_news

log = logging.getLogger(__name__)

STDERR = 2
LEAVE_WITHIN_S = 5.0


def command(module: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that starts a runner."""
    # -P keeps the current folder out of sys.path: a `worker.py` of the user's must not shadow our package.
    return (sys.executable, "-P", "-m", module, *arguments)


class RunnerProcess:
    """One runner, from its start to its exit; it stays warm from trial to trial and is never restarted.

    Args:
        argv: the command line; `--orders FD --news FD --lifeline FD` are appended.
        tell: is called, from a thread, with each message of the runner and at last with its exit.
        environment: its environment; None hands on what it needs of this process's own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        tell: Callable[[RunnerMessage | RunnerExited], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._tell = tell
        self._explanation: Failed | None = None
        # Counted before the start: if the count is higher when the runner was killed, it was killed for its memory.
        self._oom_kills = devices.oom_kills()
        orders, self._orders_end = os.pipe()
        news, news_end = os.pipe()
        try:
            self._child = lifeline.spawn(
                [*argv, "--orders", str(orders), "--news", str(news_end)],
                env=handed_on(os.environ) if environment is None else environment,
                stdout=STDERR,
                pass_fds=(orders, news_end),
            )
        except BaseException:
            os.close(self._orders_end)
            os.close(news)
            raise
        finally:
            # The child has its own copies. An open copy here would hide the child's death: no end-of-file would come.
            os.close(orders)
            os.close(news_end)
        self.pid = self._child.process.pid
        self._sender = Sender(self._orders_end)
        self._listener = threading.Thread(
            target=self._listen, args=(news,), name="runner-news", daemon=True
        )
        self._listener.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._child.process.poll() is None

    def send(self, order: Order) -> None:
        """Send an order; to a dead runner it is lost, and the exit is reported anyway."""
        with contextlib.suppress(BrokenPipeError):
            self._sender.send(order)

    def kill(self, why: Failed) -> None:
        """End the process, and those that train on a trial's further devices, at once; its exit is reported with `why`."""
        self._explanation = why
        self._kill()

    def _kill(self) -> None:
        # The whole group, since a process that hangs in a driver does not read its lifeline.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the process leave by itself; kill it if it does not leave in time."""
        self._child.let_go()
        try:
            self._child.process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
        self._listener.join(LEAVE_WITHIN_S)
        self._sender.close()

    def _listen(self, news: int) -> None:
        try:
            for message in read_news(news):
                self._tell(RunnerMessage(self.pid, message))
        except ValidationError as error:
            log.debug("an invalid message of the training process", exc_info=error)
            message = (
                "The training process sent a line that is not a valid message; if TRIMTAB_WORKER_RUNNER is set, "
                "that module must speak this version's protocol (worker/pipe_messages.py)."
            )
            self.kill(Failed(error="crashed", message=message, retryable=True))
        self._tell(RunnerExited(self.pid, self._explain(self._exit_code())))

    def _exit_code(self) -> int:
        try:
            return self._child.process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
            return self._child.process.wait()

    def _explain(self, returncode: int) -> Failed:
        if self._explanation is not None:
            return self._explanation
        # The kernel's OOM killer sends the same SIGKILL as a person would; only its counter tells them apart.
        if returncode == -signal.SIGKILL and devices.oom_kills() > self._oom_kills:
            message = (
                "The kernel killed the training process because the machine or its container ran out of memory; "
                "give it more, or use fewer --slots."
            )
            return Failed(error="oom", message=message, retryable=True)
        if returncode == -signal.SIGKILL:
            message = "The training process was killed by SIGKILL from outside this worker."
            return Failed(error="killed", message=message, retryable=True)
        return Failed(
            error="crashed",
            message=f"The training process {_in_words(returncode)}; the worker's log has its last output.",
            retryable=True,
        )


def _in_words(returncode: int) -> str:
    if returncode < 0:
        return f"died of signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"left with exit code {returncode}"
