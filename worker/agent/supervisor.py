"""Runs several workers on one device, each with a share of its memory: `trimtab worker start --slots N`."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence

from trimtab import lifeline
from worker import devices, signals

LABEL_LENGTH = 63


def label_of(label: str, slot: int) -> str:
    """Return the label of one slot's worker."""
    end = f"-{slot}"
    return f"{label[: LABEL_LENGTH - len(end)]}{end}"


def run(options: Sequence[str], label: str, slots: int, lifeline_fd: int | None) -> int:
    """Start a worker for each slot and wait for all of them; return the first exit code that is not 0.

    A signal, or the end of the lifeline, is passed on to every worker. A worker drains at the first and leaves at once
    at the second.

    Args:
        options: the options of `worker start` that all slots share.
        label: the label of this machine; each worker's label is this one with the slot's number appended.
        slots: the number of workers.
        lifeline_fd: the descriptor whose end-of-file tells this process to leave, or None.

    Raises:
        devices.TooManySlots: the host's memory is not enough for this many slots.
    """
    # Checked before any worker starts: without it, every one of them would start and then refuse.
    devices.share(devices.host_memory_bytes(), slots)
    children: list[lifeline.Child] = []
    with _signals_to(children):
        for slot in range(slots):
            own = ("--label", label_of(label, slot), "--one-of", str(slots))
            argv = [sys.executable, "-P", "-m", "worker", "start", *options, *own]
            children.append(lifeline.spawn(argv))
        if lifeline_fd is not None:
            lifeline.watch(lifeline_fd, lambda: _pass_on(children, signal.SIGTERM))
        codes = [child.process.wait() for child in children]
    for child in children:
        child.let_go()
    return next((code for code in codes if code != 0), 0)


@contextlib.contextmanager
def _signals_to(children: Sequence[lifeline.Child]) -> Generator[None]:
    before = {
        number: signal.signal(number, lambda number, _: _pass_on(children, number))
        for number in signals.LEAVE
        if threading.current_thread() is threading.main_thread()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(children: Sequence[lifeline.Child], number: int) -> None:
    for child in children:
        # Popen.send_signal takes a lock that the main thread holds while it waits, and the handler runs in that thread.
        if child.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process.pid, number)
