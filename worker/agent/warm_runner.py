"""Keeps one runner warm from trial to trial, and replaces it when it dies.

A runner is kept because to start one takes seconds (torch, CUDA) and each trial may take less than that.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from trimtab.contract.leases import Failed
from worker.agent.events import Event, EventQueue, EventRouter, RunnerExited, RunnerMessage
from worker.agent.runner_process import RunnerProcess
from worker.pipe_messages import Ready, Refused

log = logging.getLogger(__name__)

START_WITHIN_S = 300.0
"""Importing torch from a slow network disk takes minutes."""


class CannotWork(Exception):
    """This worker cannot work until a person changes something; the message says what."""


class WarmRunner:
    """The runner of one agent; it is started when it is needed.

    Args:
        argv: the command line of the runner.
        events: the queue in which the runner's messages about itself arrive.
        router: puts the runner's messages into this queue and those of the other slots.
        is_leaving: tells whether the agent was told to leave; then waiting for the runner ends.
        environment: the environment of the runner; None hands on what it needs of this process's own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        events: EventQueue,
        router: EventRouter,
        is_leaving: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._argv = argv
        self._environment = environment
        self._events = events
        self._router = router
        self._is_leaving = is_leaving
        self._process: RunnerProcess | None = None
        self._ready: Ready | None = None

    def get(self) -> tuple[RunnerProcess, Ready] | None:
        """Wait for a warm runner; None when it could not be started this time.

        Raises:
            CannotWork: the runner says that it cannot work here, and why.
        """
        if self._process is None and not self._start():
            return None
        deadline = time.monotonic() + START_WITHIN_S
        while self._process is not None and self._ready is None and not self._is_leaving():
            event = self._events.get(deadline - time.monotonic())
            if event is None:
                message = f"The training process was not ready within {START_WITHIN_S:.0f} s."
                self._process.kill(Failed(error="stalled", message=message))
                deadline += START_WITHIN_S
            else:
                self.take(event)
        if self._process is None or self._ready is None:
            return None
        return self._process, self._ready

    def take(self, event: Event) -> None:
        """Handle what the runner says about itself, or its exit, between two trials.

        Raises:
            CannotWork: the runner says that it cannot work here, and why.
        """
        # Events of an earlier runner may still be in the queue; the pid tells them apart.
        pid = None if self._process is None else self._process.pid
        match event:
            case RunnerMessage(pid=sender, news=Ready() as ready) if sender == pid:
                self._ready = ready
            case RunnerMessage(pid=sender, news=Refused(message=message)) if sender == pid:
                raise CannotWork(message)
            case RunnerExited(pid=dead, failure=failure) if dead == pid:
                log.warning("%s A new training process is started.", failure.message)
                self.stop()
            case _:
                pass

    def after_trial(self, *, crashed: bool) -> None:
        """Stop the runner after a crash, so that the next trial gets a new one.

        A CUDA error, for example, leaves every later call of the same process failing.
        """
        if self._process is not None and (crashed or not self._process.is_alive):
            self.stop()

    def stop(self) -> None:
        """End the runner, if there is one."""
        if self._process is not None:
            self._process.close()
        self._process = self._ready = None

    def _start(self) -> bool:
        try:
            self._process = RunnerProcess(self._argv, self._router.put, self._environment)
        except OSError as error:
            log.warning("the training process could not be started, trying again: %s", error)
            return False
        return True
