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


def register_mobilenet(folder: Path) -> Path:
    """Write the few lines that register the lab's MobileNet, model code of somebody else's, as `user:mbv2`."""
    path = folder / "mobilenet.py"
    path.write_text(f"""
import json, sys
sys.path.append({str(FOLDER)!r})
from user_backbones import McuNet
with open({str(FOLDER / "mbv2-w0.35_imagenet.json")!r}) as file:
    spec = json.load(file)
half = (0.5, 0.5, 0.5)
BACKBONES = {{"mbv2": {{"build": lambda classes: McuNet(spec, classes, bn=True),
                      "mean": half, "std": half, "image_size": 128}}}}
""")
    return path
