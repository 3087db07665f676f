"""The training process, seen from the agent: started, spoken to, killed, and its death explained."""

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
from worker.agent.events import RunnerExited, RunnerMessage
from worker.pipe_messages import Order, Sender, read_news

log = logging.getLogger(__name__)

STDERR = 2
LEAVE_WITHIN_S = 5.0


def command(module: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return how to start a runner. -P: a `worker.py` in the user's folder must not shadow ours."""
    return (sys.executable, "-P", "-m", module, *arguments)


class RunnerProcess:
    """One runner, from its start to its death; it stays warm from trial to trial, and is never restarted.

    Args:
        argv: how to start it; `--orders FD --news FD --lifeline FD` are added.
        tell: is called from a thread with all that it says, and at last with its death.
    """

    def __init__(
        self, argv: Sequence[str], tell: Callable[[RunnerMessage | RunnerExited], None]
    ) -> None:
        self._tell = tell
        self._explanation: Failed | None = None
        self._oom_kills = devices.oom_kills()
        orders, self._orders_end = os.pipe()
        news, news_end = os.pipe()
        try:
            self._child = lifeline.spawn(
                [*argv, "--orders", str(orders), "--news", str(news_end)],
                env=_without_secrets(os.environ),
                stdout=STDERR,
                pass_fds=(orders, news_end),
            )
        except BaseException:
            os.close(self._orders_end)
            os.close(news)
            raise
        finally:
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
        """Say something; to a dead runner it is lost, and its death is told anyway."""
        with contextlib.suppress(BrokenPipeError):
            self._sender.send(order)

    def kill(self, why: Failed) -> None:
        """End it at once; its death is told with `why`."""
        self._explanation = why
        self._child.process.kill()

    def close(self) -> None:
        """Let it leave in good order, then make it."""
        self._child.let_go()
        try:
            self._child.process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.process.kill()
        self._listener.join(LEAVE_WITHIN_S)
        self._sender.close()

    def _listen(self, news: int) -> None:
        try:
            for message in read_news(news):
                self._tell(RunnerMessage(self.pid, message))
        except ValidationError as error:
            log.debug("what the runner said", exc_info=error)
            message = "The training process said what is no message of ours."
            self.kill(Failed(error="crashed", message=message, retryable=True))
        self._tell(RunnerExited(self.pid, self._explain(self._bury())))

    def _bury(self) -> int:
        try:
            return self._child.process.wait(LEAVE_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.process.kill()
            return self._child.process.wait()

    def _explain(self, returncode: int) -> Failed:
        if self._explanation is not None:
            return self._explanation
        if returncode == -signal.SIGKILL and devices.oom_kills() > self._oom_kills:
            message = "The kernel killed the training process for want of memory."
            return Failed(error="oom", message=message, retryable=True)
        if returncode == -signal.SIGKILL:
            message = "The training process was killed (SIGKILL)."
            return Failed(error="killed", message=message, retryable=True)
        return Failed(
            error="crashed",
            message=f"The training process {_in_words(returncode)}.",
            retryable=True,
        )


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The training process runs other people's models, and has nothing to say to the service."""
    return {name: value for name, value in environment.items() if name != "TRIMTAB_TOKEN"}


def _in_words(returncode: int) -> str:
    if returncode < 0:
        return f"died of signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"left with exit code {returncode}"
