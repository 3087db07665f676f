"""A virtual environment for a peer alone: what it pins may clash with ours."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class PeerMissing(Exception):
    """A peer cannot be used here; the message says why."""


def install(
    folder: Path, requirements: Sequence[str], probe: str, bare: Sequence[str] = ()
) -> Path:
    """Install packages into a new environment, unless it has them, and return its interpreter.

    Args:
        folder: The environment's folder.
        requirements: The packages, installed with all that they ask for.
        probe: A Python statement that loads what is needed.
        bare: Packages of which nothing that they ask for is installed.

    Raises:
        PeerMissing: there is no uv, no network, or no wheel for this Python; or it does not load.
    """
    python = folder / "bin" / "python"
    if not _loads(python, probe):
        uv = _uv()
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        into = [uv, "pip", "install", "--quiet", "--python", str(python)]
        _run([*into, *requirements])
        if bare:
            _run([*into, "--no-deps", *bare])
        _run([str(python), "-c", probe])
    return python


def _loads(python: Path, probe: str) -> bool:
    if not python.exists():
        return False
    return not subprocess.run(
        [python, "-c", probe], check=False, capture_output=True
    ).returncode


def _uv() -> str:
    """The uv that `./run` has put beside the checkout, or the one on the PATH."""
    own = Path(__file__).parents[2] / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        raise PeerMissing("uv is neither in .uv/bin nor on the PATH; start this by ./run")
    return found


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise PeerMissing(f"{' '.join(argv[:3])} failed: {done.stderr.strip()[-500:]}")
