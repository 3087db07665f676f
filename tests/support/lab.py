"""Real data and weights that the project may use but never ships: found where the lab keeps them."""

import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get("TRIMTAB_LAB_DATA") or Path(__file__).parents[3] / "shared" / "data"
)


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test where some of these files are missing."""
    return pytest.mark.skipif(
        not all((FOLDER / name).exists() for name in names),
        reason=f"needs {', '.join(names)} in TRIMTAB_LAB_DATA",
    )
