"""`./run engines kubernetes`: the files for Kubernetes before KEDA's own schemas, of 2.10 and of 2.20.

They come from npm (`@kubernetes-models/keda`, MIT), as functions that Node runs. They let fields pass that they do not know:
`tests/support/keda_schema.json` does not, and it is compared with KEDA's types here, so that it knows none that KEDA lacks.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubernetes
from tests.support.kubernetes import KEDA, Document

OF_2_10, OF_2_20 = "0.4.2", "2.0.0"
"""The releases of `@kubernetes-models/keda`."""
KINDS = ("ScaledJob", "TriggerAuthentication")
ASK = """
import { readFileSync } from "node:fs";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
const faults = [];
for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  try { new keda[document.kind](document).validate(); } catch (error) { faults.push(String(error.message)); }
}
console.log(JSON.stringify(faults));
"""

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        shutil.which("npm") is None, reason="npm is not installed (on Debian: apt install npm)"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=[OF_2_10, OF_2_20])
def schemas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keda")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    package = f"@kubernetes-models/keda@{request.param}"
    words = ["npm", "install", "--silent", "--no-audit", "--no-fund", package]
    answer = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        pytest.skip(f"{package} cannot be had from npm: {answer.stderr.strip()[-300:]}")
    (folder / "ask.js").write_text(ASK)
    return folder


@pytest.fixture(scope="module", params=["base", "cpu"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = kubernetes.copy(tmp_path_factory.mktemp("files"))
    return [one for one in kubernetes.build(files / request.param) if one["kind"] in KINDS]


def faults(schemas: Path, documents: list[Document]) -> list[str]:
    answer = subprocess.run(
        ["node", "ask.js"],
        cwd=schemas,
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_keda_takes_the_files(schemas: Path, ours: list[Document]) -> None:
    assert len(ours) == len(KINDS)
    assert faults(schemas, ours) == []


def test_keda_refuses_a_number_for_a_target(schemas: Path, ours: list[Document]) -> None:
    scaled = json.loads(json.dumps(kubernetes.one(ours, "ScaledJob")))
    scaled["spec"]["triggers"][0]["metadata"]["targetValue"] = 1
    (fault,) = faults(schemas, [scaled])
    assert "string" in fault


def test_our_schema_knows_no_field_that_keda_does_not(schemas: Path) -> None:
    types = schemas / "node_modules" / "@kubernetes-models" / "keda" / "keda.sh" / "v1alpha1"
    if not (types / "Rollout.d.ts").is_file():
        pytest.skip("this release has one type for each kind")
    for name in (
        "ScaledJobSpec",
        "Rollout",
        "ScalingStrategy",
        "ScaleTriggers",
        "TriggerAuthenticationSpec",
    ):
        known = set(re.findall(r'"(\w+)"\??:', (types / f"{name}.d.ts").read_text()))
        assert set(KEDA["$defs"][name]["properties"]) <= known, name
