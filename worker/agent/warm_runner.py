"""Keeps one runner warm from trial to trial, and replaces it when it dies."""

import logging
import time
from collections.abc import Callable, Sequence

from trimtab.contract.leases import Failed
from worker.agent.events import Event, EventQueue, EventRouter, RunnerExited, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Ready, Refused

log = logging.getLogger(__name__)

START_WITHIN_S = 300.0
"""Importing torch from a slow network disk takes minutes."""


class CannotWork(Exception):
    """This agent can do nothing until a person changes something; the message says what."""


class WarmRunner:
    """The runner of one agent, started when it is needed.

    Args:
        argv: how to start it.
        events: where it is heard when it speaks of itself.
        post: what brings there, and elsewhere, what it says.
        is_leaving: whether to stop waiting.
    """

    def __init__(
        self,
        argv: Sequence[str],
        events: EventQueue,
        post: EventRouter,
        is_leaving: Callable[[], bool],
    ) -> None:
        self._argv = argv
        self._events = events
        self._post = post
        self._is_leaving = is_leaving
        self._process: RunnerProcess | None = None
        self._ready: Ready | None = None

    def get(self) -> tuple[RunnerProcess, Ready] | None:
        """Wait for a warm runner; None when it could not be started this time.

        Raises:
            CannotWork: it says that it never will.
        """
        if self._process is None and not self._start():
            return None
        deadline = time.monotonic() + START_WITHIN_S
        while self._process is not None and self._ready is None and not self._is_leaving():
            event = self._events.get(deadline - time.monotonic())
            if event is None:
                self._process.kill(Failed(error="stalled", message="It did not start in time."))
                deadline += START_WITHIN_S
            else:
                self.take(event)
        if self._process is None or self._ready is None:
            return None
        return self._process, self._ready

    def take(self, event: Event) -> None:
        """Heed what the runner says, or its death, between two trials.

        Raises:
            CannotWork: it cannot work as it was asked to.
        """
        pid = None if self._process is None else self._process.pid
        match event:
            case RunnerMessage(pid=said, news=Ready() as ready) if said == pid:
                self._ready = ready
            case RunnerMessage(pid=said, news=Refused(message=message)) if said == pid:
                raise CannotWork(message)
            case RunnerExited(pid=dead, failure=failure) if dead == pid:
                log.warning("%s It is replaced.", failure.message)
                self.stop()
            case _:
                pass

    def after_trial(self, *, crashed: bool) -> None:
        """Begin afresh after what nobody foresaw: a CUDA error, say, spoils its whole process."""
        if self._process is not None and (crashed or not self._process.is_alive):
            self.stop()

    def stop(self) -> None:
        """Let it leave, or make it."""
        if self._process is not None:
            self._process.close()
        self._process = self._ready = None

    def _start(self) -> bool:
        try:
            self._process = RunnerProcess(self._argv, self._post.put)
        except OSError as error:
            log.warning("the runner could not be started: %s", error)
            return False
        return True
