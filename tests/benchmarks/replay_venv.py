"""The process that knows the learning curves and Syne Tune's schedulers, in an environment of its own."""

import json
import os
import subprocess
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks import peer_venv
from tests.support import lab

ARCHIVE = "lcbench_onnx.tar"
REQUIREMENTS = (
    "onnxruntime==1.32.0",
    "numpy<2.5",
    "scipy",
    "pandas",
    "statsmodels",
    "dill",
    "sortedcontainers",
)
BARE = ("syne-tune==0.16.0",)
"""Without xgboost, which asks for CUDA and which none of its schedulers here loads."""
PROBE = "import onnxruntime; from syne_tune.optimizer.baselines import ASHA, BOHB"


class Desk:
    """Asks the process (`replay_peer.py`) one question after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, verb: str, **given: Any) -> dict[str, Any]:
        """Return its answer.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"verb": verb, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of the curves ended over {verb!r}; see above")
        return json.loads(line)


@contextmanager
def desk(folder: Path) -> Generator[Desk]:
    """Install what the process needs below the folder, unpack the surrogate there, and run the process until the end.

    Raises:
        PeerMissing: it cannot be installed here (about 90 MB to download, then cached by uv).
        FileNotFoundError: the surrogate is not there.
    """
    archive = lab.FOLDER / ARCHIVE
    if not archive.exists():
        raise FileNotFoundError(f"{archive} is missing (TRIMTAB_LAB_DATA names its folder)")
    python = peer_venv.install(folder / "venv", REQUIREMENTS, PROBE, BARE)
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    argv = [str(python), str(Path(__file__).with_name("replay_peer.py"))]
    with subprocess.Popen(
        [*argv, str(folder / archive.stem)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        yield Desk(process)
        assert process.stdin is not None
        process.stdin.close()
