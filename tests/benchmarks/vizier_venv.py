"""A virtual environment for OSS Vizier alone: its protobuf and jax may clash with ours."""

import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = (
    "google-vizier[jax]==0.1.24",  # its server imports jax whatever the algorithm
    "jax==0.4.38",  # the equinox that it pins does not load beside a newer one
    "jaxlib==0.4.38",
    "numpy<2.3",
)
PROBE = "from vizier._src.service import vizier_server"


class VizierMissing(Exception):
    """OSS Vizier cannot be used here; the message says why."""


def python_of(folder: Path) -> Path:
    """Install into `folder` (about 250 MB to download, then cached by uv) and return its interpreter.

    Raises:
        VizierMissing: there is no uv, no network, or no wheel for this Python; or it does not load.
    """
    uv, python = _uv(), folder / "bin" / "python"
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS])
    _run([str(python), "-c", PROBE])
    return python


def _uv() -> str:
    """The uv that `./run` has put beside the checkout, or the one on the PATH."""
    own = Path(__file__).parents[2] / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        raise VizierMissing("uv is neither in .uv/bin nor on the PATH; start this by ./run")
    return found


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise VizierMissing(f"{' '.join(argv[:3])} failed: {done.stderr.strip()[-500:]}")
