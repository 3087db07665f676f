"""The embedded Postgres, driven as real processes that are ended in every way."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path

import psycopg2
import pytest

from service.embedded import (
    AlreadyOwned,
    DidNotStart,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    running,
)
from service.embedded_processes import processes_in, send
from tests.support.postgres_owners import (
    FAST,
    owner,
    postmaster,
    query,
    until,
)


def test_what_was_written_is_there_after_a_restart_at_the_same_address(
    state_root: Path,
) -> None:
    with running(state_root, settings=FAST) as first:
        query(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with running(state_root, settings=FAST) as second:
        assert query(second.url, "SELECT answer FROM kept") == 42
    assert second.url == first.url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres, None, None]:
    """One that is only looked at."""
    with running(tmp_path_factory.mktemp("state"), settings=FAST) as server:
        yield server


def test_it_listens_on_loopback_only_and_makes_no_socket_file(server: EmbeddedPostgres) -> None:
    assert query(server.url, "SHOW listen_addresses") == "127.0.0.1"
    assert query(server.url, "SHOW unix_socket_directories") == ""


def test_a_wrong_password_is_refused_and_no_rule_trusts_anybody(
    server: EmbeddedPostgres,
) -> None:
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


def test_the_password_file_and_its_folder_are_closed_to_others(
    server: EmbeddedPostgres,
) -> None:
    folder = server.data_dir.parent
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    arguments = Path(f"/proc/{server.keeper_pid}/cmdline").read_text()
    assert (folder / "password").read_text() not in arguments


def test_settings_are_handed_on_and_durability_is_the_default(state_root: Path) -> None:
    with running(state_root, settings={"wal_level": "logical"}) as server:
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


def test_a_second_owner_is_told_who_has_it_and_how_to_share(state_root: Path) -> None:
    with owner(state_root) as first:
        with (
            pytest.raises(AlreadyOwned, match=f"process {first.process.pid}") as refused,
            running(state_root),
        ):
            pass
        assert f"@127.0.0.1:{first.server.port}/trimtab" in str(refused.value)
        assert query(first.server.url, "SELECT 1") == 1


def test_of_owners_that_start_at_once_on_a_new_folder_one_wins(state_root: Path) -> None:
    outcomes: list[str] = []
    done = threading.Event()

    def start() -> None:
        try:
            with running(state_root, settings=FAST) as server:
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_running_whatever_signal_ends_the_owner(
    state_root: Path, number: signal.Signals
) -> None:
    with owner(state_root) as first:
        query(first.server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        first.process.send_signal(number)
        first.process.wait()
        first.leaves_nothing()
    with running(state_root, settings=FAST) as server:
        assert query(server.url, "SELECT answer FROM kept") == 42


def test_a_fork_that_outlives_the_owner_does_not_keep_postgres(state_root: Path) -> None:
    with owner(state_root, "fork") as first:
        first.process.kill()
        first.leaves_nothing()


def test_a_new_owner_waits_for_the_keeper_of_the_dead_one(state_root: Path) -> None:
    with owner(state_root) as first:
        busy = threading.Thread(target=_hold_until_cut, args=(first.server.url,))
        busy.start()
        first.process.kill()
        first.process.wait()
        with running(state_root, settings=FAST) as server:
            assert query(server.url, "SELECT 1") == 1
        busy.join()


def _hold_until_cut(url: str) -> None:
    with contextlib.suppress(psycopg2.Error):
        query(url, "SELECT pg_sleep(1000)")


def test_ctrl_c_reaches_the_owner_only(server: EmbeddedPostgres) -> None:
    session = os.getsid(postmaster(server.data_dir))
    assert session == os.getsid(server.keeper_pid) != os.getsid(0)


def test_a_killed_keeper_takes_postgres_with_it_and_the_owner_hears_of_it(
    state_root: Path,
) -> None:
    lost = threading.Event()
    with running(state_root, settings=FAST, on_lost=lost.set) as server:
        os.kill(server.keeper_pid, signal.SIGKILL)
        assert lost.wait(60)
        until(lambda: not processes_in(server.data_dir), "postgres has ended")


def test_an_orderly_end_is_not_reported_as_a_loss(state_root: Path) -> None:
    lost = threading.Event()
    with running(state_root, settings=FAST, on_lost=lost.set):
        watcher = next(
            thread for thread in threading.enumerate() if thread.name == "embedded-postgres"
        )
    watcher.join(60)
    assert not lost.is_set()


def test_a_killed_postmaster_is_started_again_at_the_same_address_with_its_data(
    state_root: Path,
) -> None:
    with running(state_root, settings=FAST) as server:
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


def test_an_innocent_process_with_the_pid_of_a_stale_file_is_left_alone(
    state_root: Path,
) -> None:
    with running(state_root, settings=FAST) as server:
        lines = (server.data_dir / "postmaster.pid").read_text().splitlines(keepends=True)
    account = server.data_dir.stat().st_uid if os.geteuid() == 0 else None
    innocent = subprocess.Popen(["sleep", "1000"], cwd=server.data_dir, user=account)
    try:
        (server.data_dir / "postmaster.pid").write_text(
            "".join([f"{innocent.pid}\n", *lines[1:]])
        )
        with running(state_root, settings=FAST) as again:
            assert query(again.url, "SELECT 1") == 1
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_postmaster_of_another_folder_is_not_taken_for_ours(state_root: Path) -> None:
    with (
        running(state_root / "one", settings=FAST) as one,
        running(state_root / "two", settings=FAST) as two,
    ):
        assert not set(processes_in(one.data_dir)) & set(processes_in(two.data_dir))
        for pid in processes_in(two.data_dir):
            send(pid, one.data_dir, signal.SIGKILL)
        assert query(two.url, "SELECT 1") == 1


def test_a_truncated_pid_file_does_not_hinder_the_start(state_root: Path) -> None:
    with running(state_root, settings=FAST) as server:
        pass
    (server.data_dir / "postmaster.pid").write_text("")
    with running(state_root, settings=FAST) as server:
        assert query(server.url, "SELECT 1") == 1


def test_an_initdb_that_was_cut_off_is_done_again(state_root: Path) -> None:
    half = state_root / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with running(state_root, settings=FAST) as server:
        assert query(server.url, "SELECT 1") == 1
    assert not half.exists()


def test_a_port_that_somebody_else_has_taken_is_given_up(state_root: Path) -> None:
    with running(state_root, settings=FAST) as first:
        pass
    with (
        socket.create_server(("127.0.0.1", first.port)),
        running(state_root, settings=FAST) as second,
    ):
        assert second.port != first.port
        assert query(second.url, "SELECT 1") == 1


def test_a_failed_start_quotes_the_log_and_names_it(state_root: Path) -> None:
    with (
        pytest.raises(DidNotStart) as failed,
        running(state_root, settings={"max_connections": "many"}),
    ):
        pass
    assert 'invalid value for parameter "max_connections": "many"' in str(failed.value)
    assert str(state_root / "postgres" / "postgres.log") in str(failed.value)


def test_a_damaged_data_folder_is_kept_and_reported(state_root: Path) -> None:
    with running(state_root, settings=FAST) as server:
        pass
    (server.data_dir / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(DidNotStart, match="pg_control"), running(state_root, settings=FAST):
        pass
    assert (server.data_dir / "PG_VERSION").exists()


def test_a_lost_password_file_is_explained(state_root: Path) -> None:
    with running(state_root, settings=FAST):
        pass
    (state_root / "postgres" / "password").unlink()
    with (
        pytest.raises(EmbeddedPostgresError, match="password"),
        running(state_root, settings=FAST),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_explained(state_root: Path) -> None:
    (state_root / "file").write_text("in the way")
    with (
        pytest.raises(EmbeddedPostgresError, match="TRIMTAB_DATABASE_URL"),
        running(state_root / "file"),
    ):
        pass
