"""Programs that the command line hands over to, run for real."""

import subprocess
import sys
from pathlib import Path


def test_a_program_has_the_last_word_and_a_users_own_worker_does_not_shadow_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit('the wrong worker')")
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "trimtab.cli", "worker", "start", "--device", "abacus"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "must be auto, cpu" in ran.stderr
    assert "wrong worker" not in ran.stderr
    assert "Traceback" not in ran.stderr
