"""What this machine offers."""

import os
import socket
from pathlib import Path

import pytest

from trimtab.cli import machine


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs, as `nvidia-smi` tells of them."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA H100 (UUID: GPU-a)'\n"
        "echo '  MIG 1g Device 0: (UUID: MIG-x)'\n"
        "echo 'GPU 1: NVIDIA H100 (UUID: GPU-b)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_every_gpu_is_a_device(gpus: Path) -> None:
    assert gpus.exists()
    assert machine.devices() == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("1", ("cuda:0",)),
        ("0,1", ("cuda:0", "cuda:1")),
        ("1,-1,0", ("cuda:0",)),
        ("", ("cpu",)),
        ("-1", ("cpu",)),
    ],
)
def test_only_visible_gpus_count(
    gpus: Path, visible: str, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpus.exists()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.devices() == devices


def test_without_a_gpu_there_is_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.devices() == ("cpu",)


def test_a_taken_port_gives_way_to_a_free_one_above_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = machine.free_port(port)
        assert found == 0 or port < found <= port + machine.TRIES


def test_a_free_port_is_taken_as_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert machine.free_port(port) == port


def test_port_0_leaves_the_choice_to_the_service() -> None:
    assert machine.free_port(0) == 0
