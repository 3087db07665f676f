"""The images and the compose file, as far as can be told without a container engine."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import podman_compose
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def lint(*command: str) -> None:
    answer = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, continued lines joined."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("FROM "):
            name = line.split()[-1]
            found[name] = [line]
        elif line and not line.startswith("#"):
            found[name].append(" ".join(line.split()))
    return found


def test_the_compose_file_follows_the_specification() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_dockerfile_has_no_finding() -> None:
    lint("hadolint", "--no-color", "--failure-threshold", "info", "Dockerfile")


@pytest.mark.parametrize("name", ["server", "worker"])
def test_images_run_as_an_ordinary_user(stages: dict[str, list[str]], name: str) -> None:
    assert "USER 10001" in stages[name]
    assert not any(line.startswith("RUN") for line in stages[name])


def test_the_server_image_is_healthy_when_it_is_ready(stages: dict[str, list[str]]) -> None:
    (check,) = [line for line in stages["server"] if line.startswith("HEALTHCHECK")]
    assert "http://127.0.0.1:8000/readyz" in check
    assert (
        'CMD ["trimtab", "server", "--host", "0.0.0.0", "--port", "8000"]' in stages["server"]
    )
    assert 'CMD ["trimtab", "worker", "start"]' in stages["worker"]


def test_the_server_image_installs_the_server_group_only(stages: dict[str, list[str]]) -> None:
    syncs = [line for line in stages["build-server"] if "uv sync" in line]
    assert syncs
    assert all("--frozen --only-group server" in line for line in syncs)


@pytest.mark.parametrize(
    ("name", "build"), [("server", "build-server"), ("worker", "build-worker")]
)
def test_what_is_ours_is_a_layer_of_its_own(
    stages: dict[str, list[str]], name: str, build: str
) -> None:
    copied = [line for line in stages[name] if line.startswith("COPY")]
    assert copied == [f"COPY --from={build} /app/.venv .venv", "COPY --from=ours /ours .venv"]
    assert "COPY . ." not in stages[build], "a change of ours would build the gigabytes anew"


def test_every_package_and_nothing_private_reaches_the_build() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    rules = (REPOSITORY / ".dockerignore").read_text().split()
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        *packages, *project["project"]["license-files"], project["project"]["readme"], "pyproject.toml", "uv.lock",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["service", "worker", "worker-gpu"])
def test_nothing_starts_without_a_token_of_its_owners(
    services: dict[str, Any], name: str
) -> None:
    assert services[name]["environment"]["TRIMTAB_TOKEN"].startswith("${TRIMTAB_TOKEN:?")
    assert services[name]["init"] is True
    assert services[name]["stop_grace_period"] == "2m"
    assert services[name]["cap_drop"] == ["ALL"]
    assert services[name]["read_only"] is True
    assert services[name]["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_read_the_data_sets_that_are_mounted_and_nothing_else(
    services: dict[str, Any], name: str
) -> None:
    roots = services[name]["environment"]["TRIMTAB_WORKER_ROOTS"]
    assert f"${{TRIMTAB_DATASETS:-./datasets}}:{roots}:ro" in services[name]["volumes"]


def test_the_database_role_is_named_unlike_every_schema(services: dict[str, Any]) -> None:
    role = services["postgres"]["environment"]["POSTGRES_USER"]
    assert role == "tt_owner"
    assert f"//{role}:" in services["service"]["environment"]["TRIMTAB_DATABASE_URL"]


def test_the_service_is_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published == {
        "postgres": [],
        "service": ["127.0.0.1:${TRIMTAB_PORT:-8000}:8000"],
        "worker": [],
        "worker-gpu": [],
    }


def test_a_gpu_is_reserved_only_when_asked_for(services: dict[str, Any]) -> None:
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    # Without a driver Podman gives none and says nothing; a count of one is always the first.
    assert device == {
        "driver": "nvidia",
        "device_ids": ["${TRIMTAB_GPU:-0}"],
        "capabilities": ["gpu"],
    }
    assert "deploy" not in services["worker"]


def test_nobody_relies_on_an_order_that_podman_does_not_keep(services: dict[str, Any]) -> None:
    waiting = {name: service.get("depends_on") for name, service in services.items()}
    assert waiting == {
        "postgres": None,
        "service": ["postgres"],
        "worker": ["service"],
        "worker-gpu": ["service"],
    }


def test_podman_gives_the_gpu_that_is_asked_for(services: dict[str, Any]) -> None:
    words: list[str] = []
    podman_compose.container_to_gpu_res_args(services["worker-gpu"], words)
    assert "nvidia.com/gpu=${TRIMTAB_GPU:-0}" in words
