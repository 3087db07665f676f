"""Run a command with the matrix products that torch's MKL takes on an AMD processor.

    .venv/bin/python -m tests.support.as_on_amd ./run test tests/unit/training

MKL asks two functions of its own what processor it runs on. A small library, loaded before it, answers in their place: not
Intel, but Zen. The kernels that it takes then need AVX2 alone, so that they run here too. oneDNN is held to instructions that
both makers have. What an AMD processor computes elsewhere, in torch's own kernels, is what any processor with AVX-512 does.
It needs a C compiler, and torch with MKL inside.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_ANSWERS = """\
int mkl_serv_intel_cpu_true(void) { return 0; }
int mkl_serv_cpuiszen(void) { return 1; }
"""


def environment(folder: Path) -> dict[str, str]:
    """The variables that make a process, and all that it starts, compute so.

    Args:
        folder: The library is left here.

    Raises:
        FileNotFoundError: There is no C compiler.
        subprocess.CalledProcessError: It does not compile.
    """
    library = folder / "as-on-amd.so"
    options = ["-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(["cc", *options], input=_ANSWERS, text=True, check=True)
    return {"LD_PRELOAD": str(library), "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


def main(command: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    with tempfile.TemporaryDirectory(prefix="trimtab-amd-") as folder:
        env = {**os.environ, **environment(Path(folder))}
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
