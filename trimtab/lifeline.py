"""Lifelines: a child process ends with the process that started it, however that one ends.

The starter keeps the writing end of a pipe and never writes to it. The child inherits the reading end as a file
descriptor (`--lifeline FD`) and leaves when it reads end-of-file. The kernel closes the writing end even after kill -9.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Child:
    """A started process and the writing end of its lifeline."""

    process: "subprocess.Popen[str]"
    lifeline: int

    def let_go(self) -> None:
        """Close the lifeline: the child reads end-of-file and shuts down."""
        os.close(self.lifeline)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[str] | None = None,
    stderr: int | IO[str] | None = None,
    pass_fds: Sequence[int] = (),
    own_session: bool = True,
) -> Child:
    """Start `argv --lifeline FD`.

    Args:
        argv: the command line.
        env: the environment; None hands on this process's own.
        stdin: the standard input, as `subprocess.Popen` takes it.
        stdout: the standard output, likewise.
        stderr: the standard error, likewise.
        pass_fds: the descriptors that the child gets beside its lifeline.
        own_session: start it in a session of its own, so that Ctrl-C reaches only the starter; otherwise whoever ends the
            starter's process group ends the child too.
    """
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [*argv, "--lifeline", str(reading)],
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(reading, *pass_fds),
            start_new_session=own_session,
            text=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return Child(process, writing)


def watch(fd: int, on_end: Callable[[], None]) -> threading.Thread:
    """Call `on_end` from a daemon thread once the lifeline `fd` reads end-of-file."""

    def wait() -> None:
        while os.read(fd, 4096):
            pass
        on_end()

    thread = threading.Thread(target=wait, name="lifeline", daemon=True)
    thread.start()
    return thread
