"""The process that owns one Postgres server: starts it, starts it again when it falls, and ends it with its owner.

`service.embedded` runs it as `python -P -m service.embedded_keeper`; it stays small by using the standard library only.
It inherits a lifeline pipe and the lock on the folder; the lock is free again only after Postgres has gone.
Standard output carries one JSON line: `{"port": 5432}` once Postgres takes connections, or `{"failed": "why"}`.
"""

import contextlib
import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from service.embedded_processes import clear_away

START_TIMEOUT_S = 120.0
"""Recovery after a crash replays the log, which may take a while; `pg_ctl` gives up after 10 s."""
ORDERLY_PATIENCE_S = 30.0
"""How long a fast shutdown may write its checkpoint when the owner asked for it."""
ORPHAN_PATIENCE_S = 0.7
"""The same when the owner has died; an immediate shutdown follows, and the next start recovers."""
NOBODY = 65534
OWN_FOLDER = "/proc/self/cwd"
"""As root, Postgres runs as another user that may not be able to walk to the data folder; it is started inside it instead."""
PORT_TAKEN = "could not create any TCP/IP sockets"


@dataclass(frozen=True)
class Orders:
    """What the owner wants kept.

    Attributes:
        folder: holds `data`, `port`, `password`, `postgres.log`.
        binaries: the folder of `initdb` and `postgres`.
        owner: pid of the process whose end ends the server.
        account: uid and gid to run Postgres as, None for our own.
        settings: Postgres settings.
    """

    folder: str
    binaries: str
    owner: int
    account: tuple[int, int] | None
    settings: dict[str, str]

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.folder, "data")

    @property
    def log(self) -> Path:
        """Where Postgres, initdb and the keeper write."""
        return Path(self.folder, "postgres.log")


class Leave(Exception):
    """The owner has gone, or asked to stop; `patience` is the time that a clean shutdown may take."""

    def __init__(self, patience: float) -> None:
        super().__init__(patience)
        self.patience = patience


class Failed(Exception):
    """Postgres cannot be started; the log says more."""


class Watch:
    """Waits for whatever comes first: the end of the owner, SIGTERM, the end of a child, or a timeout."""

    def __init__(self, lifeline: int, owner: int) -> None:
        self._lifeline = lifeline
        self._owner = owner
        self._signals, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, _only_wake)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def pause(self, seconds: float) -> None:
        """Return after `seconds` or on the end of a child.

        Raises:
            Leave: the owner died (its pipe closed, or we have another parent, as when a fork of it keeps the pipe) or sent SIGTERM.
        """
        ready, _, _ = select.select([self._lifeline, self._signals], [], [], seconds)
        if self._signals in ready and signal.SIGTERM in os.read(self._signals, 4096):
            raise Leave(ORDERLY_PATIENCE_S)
        if self._lifeline in ready and not os.read(self._lifeline, 4096):
            raise Leave(ORPHAN_PATIENCE_S)
        if os.getppid() != self._owner:
            raise Leave(ORPHAN_PATIENCE_S)

    def owner_has_gone(self) -> bool:
        """Whether nobody waits for us any more."""
        ready, _, _ = select.select([self._lifeline], [], [], 0)
        return bool(ready) or os.getppid() != self._owner

    def until_ended(self, child: "subprocess.Popen[bytes]") -> None:
        """Return when `child` has ended.

        Raises:
            Leave: the owner asks the keeper to stop, or is gone.
        """
        while child.poll() is None:
            self.pause(0.4)


class Keeper:
    """One data folder and at most one child at a time: initdb, then postgres."""

    def __init__(self, orders: Orders, watch: Watch) -> None:
        self._orders = orders
        self._watch = watch
        self._child: subprocess.Popen[bytes] | None = None
        self._port = 0

    def run(self) -> None:
        """Start Postgres, say where it listens, and start it again whenever it ends by itself.

        Raises:
            Leave: the owner has gone.
            Failed: Postgres does not start (again).
        """
        if not self._orders.data.exists():
            self._initialise()
        self._choose_port()
        self._start(again=False)
        say({"port": self._port})
        while True:
            self._supervise()

    def stop(self, patience: float) -> None:
        """End the child: fast shutdown, after `patience` seconds an immediate one, after 6 more SIGKILL."""
        child = self._child
        if child is not None:
            child.send_signal(signal.SIGINT)
            deadline = time.monotonic() + patience
            while not _ends(child, 0.05) and time.monotonic() < deadline:
                if self._watch.owner_has_gone():
                    deadline = min(deadline, time.monotonic() + ORPHAN_PATIENCE_S)
            child.send_signal(signal.SIGQUIT)
            if not _ends(child, 6.0):
                child.kill()
                child.wait()
        clear_away(self._orders.data)
        clear_away(self._new_data)

    @property
    def _new_data(self) -> Path:
        return self._orders.data.with_name("data.new")

    def _supervise(self) -> None:
        child = self._child
        if child is not None:
            self._watch.until_ended(child)
            self._note(
                f"postgres (process {child.pid}) ended with status {child.returncode}; starting it again"
            )
        self._start(again=True)

    def _initialise(self) -> None:
        """Run initdb beside and rename: a half-made data folder is never taken for a whole one."""
        clear_away(self._new_data)
        shutil.rmtree(self._new_data, ignore_errors=True)
        self._new_data.mkdir(mode=0o700)
        if self._orders.account is not None:
            os.chown(self._new_data, *self._orders.account)
        password = self._password_pipe()
        arguments = [
            "--username=tt_owner",
            "--auth=scram-sha-256",
            f"--pwfile=/dev/fd/{password}",
        ]
        arguments += [
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        if self._orders.settings.get("fsync") == "off":
            arguments.append("--no-sync")
        try:
            self._child = self._launch("initdb", self._new_data, arguments, (password,))
        finally:
            os.close(password)
        self._watch.until_ended(self._child)
        if self._child.returncode != 0:
            raise Failed(f"initdb ended with status {self._child.returncode}")
        self._new_data.rename(self._orders.data)

    def _password_pipe(self) -> int:
        """The reading end of a pipe with the password: no file that the other user could read, nothing on a command line."""
        reading, writing = os.pipe()
        os.write(writing, Path(self._orders.folder, "password").read_bytes() + b"\n")
        os.close(writing)
        if self._orders.account is not None:
            os.fchown(reading, *self._orders.account)
        return reading

    def _choose_port(self) -> None:
        """Take the port of the last run while it is free, so that a noted address stays right."""
        path = Path(self._orders.folder, "port")
        try:
            remembered = int(path.read_text())
        except (OSError, ValueError):
            remembered = 0
        self._port = free_port(remembered)
        path.write_text(f"{self._port}\n")

    def _start(self, *, again: bool) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        delay = 0.05
        while True:
            clear_away(self._orders.data)
            offset = self._orders.log.stat().st_size
            arguments = [f"--{name}={value}" for name, value in self._settings().items()]
            self._child = self._launch("postgres", self._orders.data, arguments)
            if self._becomes_ready(self._child, deadline):
                return
            if time.monotonic() > deadline:
                raise Failed(f"postgres took no connections within {START_TIMEOUT_S:.0f} s")
            if not again:
                self._other_port_or_fail(offset)
            self._watch.pause(delay)
            delay = min(2 * delay, 5.0)

    def _other_port_or_fail(self, offset: int) -> None:
        with self._orders.log.open("rb") as log:
            log.seek(offset)
            if PORT_TAKEN.encode() not in log.read():
                raise Failed("postgres ended while starting")
        self._choose_port()

    def _settings(self) -> dict[str, str]:
        fixed = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self._port),
        }
        return {**self._orders.settings, **fixed}

    def _becomes_ready(self, child: "subprocess.Popen[bytes]", deadline: float) -> bool:
        """Wait until the eighth line of postmaster.pid says `ready`, as pg_ctl does."""
        while child.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lines = (self._orders.data / "postmaster.pid").read_text().splitlines()
                if (
                    len(lines) > 7
                    and lines[0] == str(child.pid)
                    and lines[7].strip() == "ready"
                ):
                    return True
            self._watch.pause(0.02)
        return False

    def _launch(
        self, name: str, folder: Path, arguments: Sequence[str], pass_fds: Sequence[int] = ()
    ) -> "subprocess.Popen[bytes]":
        account = self._orders.account
        uid, gid = account or (os.geteuid(), os.getegid())
        program = str(Path(self._orders.binaries, name))
        rename_user = name == "initdb" and _is_nameless(uid)
        try:
            with self._orders.log.open("ab") as log:
                return subprocess.Popen(
                    [program, "-D", OWN_FOLDER if account else str(folder), *arguments],
                    cwd=folder,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=pass_fds,
                    user=uid if account else None,
                    group=gid if account else None,
                    extra_groups=[] if account else None,
                    preexec_fn=_before_exec(rename_user=rename_user),
                )
        except subprocess.SubprocessError as error:
            raise Failed(
                f"uid {uid} has no name, which initdb needs, and may make no user namespace; "
                "add it to /etc/passwd, or set TRIMTAB_DATABASE_URL"
            ) from error

    def _note(self, text: str) -> None:
        with self._orders.log.open("a") as log:
            log.write(
                f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC [{os.getpid()}] KEEPER:  {text}\n"
            )


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor carries the signal's number; nothing else is to be done."""


def _ends(child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _is_nameless(uid: int) -> bool:
    """Whether `uid` has no entry in the user database, as in many containers; initdb insists on a name."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False


def _before_exec(*, rename_user: bool) -> Callable[[], None] | None:
    """What a child does between fork and exec, after it has changed its user.

    The kernel ends it (immediate shutdown) when the keeper dies. A nameless uid is called `nobody` within a user namespace.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = os.getpid()
    set_parent_death_signal, new_user_namespace = 1, 0x10000000

    def prepare() -> None:
        if rename_user:
            uid, gid = os.geteuid(), os.getegid()
            if libc.unshare(new_user_namespace) != 0:
                raise OSError(ctypes.get_errno(), "no user namespace")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")
        libc.prctl(set_parent_death_signal, int(signal.SIGQUIT))
        if os.getppid() != keeper:
            os._exit(1)

    return prepare


def free_port(preferred: int) -> int:
    """`preferred` if it can be bound on loopback, else a port that the kernel gives."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Failed("no free TCP port on 127.0.0.1")


def say(message: dict[str, object]) -> None:
    """One line to the owner, who may have gone."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")


def main(arguments: Sequence[str]) -> int:
    """`embedded_keeper.py ORDERS --lifeline FD`: keep until the owner goes; 1 if Postgres cannot be kept up."""
    orders = Orders(**json.loads(arguments[0]))
    os.chdir("/")
    keeper = Keeper(orders, Watch(int(arguments[2]), orders.owner))
    try:
        keeper.run()
    except Leave as leave:
        keeper.stop(leave.patience)
        return 0
    except (Failed, OSError, subprocess.SubprocessError) as error:
        keeper.stop(ORPHAN_PATIENCE_S)
        say({"failed": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
