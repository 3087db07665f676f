import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "sklearn", "PIL", "sqlalchemy", "fastapi", "optuna")


@pytest.mark.parametrize("module", ["worker.agent.agent", "worker.__main__"])
def test_the_agent_is_a_small_process(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(HEAVY).isdisjoint(done.stdout.split())
