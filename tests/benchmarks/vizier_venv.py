"""A virtual environment for OSS Vizier alone: its protobuf and jax may clash with ours."""

from pathlib import Path

from tests.benchmarks import peer_venv

REQUIREMENTS = (
    "google-vizier[jax]==0.1.24",  # its server imports jax whatever the algorithm
    "jax==0.4.38",  # the equinox that it pins does not load beside a newer one
    "jaxlib==0.4.38",
    "numpy<2.3",
)
PROBE = "from vizier._src.service import vizier_server"
VizierMissing = peer_venv.PeerMissing


def python_of(folder: Path) -> Path:
    """Install into `folder` (about 250 MB to download, then cached by uv) and return its interpreter.

    Raises:
        VizierMissing: there is no uv, no network, or no wheel for this Python; or it does not load.
    """
    return peer_venv.install(folder, REQUIREMENTS, PROBE)
