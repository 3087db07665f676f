"""What runs on a node of Ray: an actor that holds a GPU of Ray's, and keeps one worker on it."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trimtab import lifeline

AGAIN_AFTER_S = 5.0


class WorkerActor:
    """One worker, for as long as the actor lives, or until the worker leaves.

    Ray starts the actor anew when its node or its process dies. The worker of an actor that dies reads end-of-file from its
    lifeline: where it still can, it stores a checkpoint and gives its trial back.

    Args:
        options: The words of `worker start`, after `start`.
        settings: Settings of the worker's environment.
        has_gpu: Whether Ray has given the actor a GPU: without one it leaves the variable that hides GPUs as it was.
        end: Is called when the worker has left: ends the actor for good.
    """

    def __init__(
        self,
        options: Sequence[str],
        settings: Mapping[str, str],
        has_gpu: bool,
        end: Callable[[], None] | None = None,
    ) -> None:
        hidden = {} if has_gpu else {"CUDA_VISIBLE_DEVICES": ""}
        self._environment = {**os.environ, **settings, **hidden}
        self._argv = [sys.executable, "-P", "-m", "worker", "start", *options]
        self._end = end or _end_actor()
        self._leaving = threading.Event()
        self._child = self._start()
        threading.Thread(target=self._watch, name="worker", daemon=True).start()

    def pid(self) -> int:
        """Return the worker's pid."""
        return self._child.process.pid

    def leave(self) -> None:
        """Let the worker store a checkpoint, give its trial back and leave; then the actor ends."""
        # Ray itself tells nothing to the actors that it ends.
        self._leaving.set()
        if self._child.process.returncode is None:
            os.kill(self._child.process.pid, signal.SIGTERM)

    def _start(self) -> lifeline.Child:
        return lifeline.spawn(self._argv, env=self._environment)

    def _watch(self) -> None:
        # What a worker says of itself is final: it has no work, was drained, or was refused. A signal says nothing.
        while self._child.process.wait() < 0 and not self._leaving.wait(AGAIN_AFTER_S):
            self._child.let_go()
            self._child = self._start()
        self._child.let_go()
        self._end()


def _end_actor() -> Callable[[], None]:
    ray: Any = importlib.import_module("ray")
    me = ray.get_runtime_context().current_actor
    return lambda: ray.kill(me, no_restart=True)
