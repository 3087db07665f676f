"""The actor that keeps a worker on a node of Ray; a real cluster is in `tests/engines`."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.until import until
from worker.__main__ import FAILED, OK, main
from worker.launchers import ray_actor
from worker.launchers.ray_actor import WorkerActor

LAUNCH = ["launch", "--ray", "--server", "http://head:8000"]
WORKER = """#!{python}
import json, os, pathlib, signal, sys, time
gone = []
signal.signal(signal.SIGTERM, lambda *_: gone.append(1))
told = pathlib.Path(os.environ["TOLD"])
told.with_name(f"told-{{os.getpid()}}").write_text(json.dumps([sys.argv[1:], os.environ.get("CUDA_VISIBLE_DEVICES")]))
while not gone and not told.exists():
    time.sleep(0.02)
sys.exit(int(told.read_text()) if told.exists() else 0)
"""

Start = Callable[..., WorkerActor]


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: threading.Event
) -> Generator[Start]:
    """Starts an actor, whose worker writes down what it is told, and leaves with the code that it is told."""
    program = tmp_path / "python"
    program.write_text(WORKER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(ray_actor, "AGAIN_AFTER_S", 0.01)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    made: list[WorkerActor] = []

    def actor(*options: str, has_gpu: bool = True) -> WorkerActor:
        made.append(WorkerActor(options, {"TRIMTAB_WORKER_ROOTS": "/"}, has_gpu, ended.set))
        return made[-1]

    yield actor
    for one in made:
        one.leave()
    assert ended.wait(30)


def told(folder: Path, pid: int) -> Any:
    file = folder / f"told-{pid}"
    until(lambda: file.exists() and bool(file.read_text()))
    return json.loads(file.read_text())


@pytest.mark.parametrize(("has_gpu", "seen"), [(True, "0,1"), (False, "")])
def test_an_actor_starts_a_worker_that_sees_the_gpus_that_ray_gave_it(
    start: Start, tmp_path: Path, has_gpu: bool, seen: str
) -> None:
    actor = start("--server", "http://head:8000", has_gpu=has_gpu)
    words, gpus = told(tmp_path, actor.pid())
    assert words[:6] == ["-P", "-m", "worker", "start", "--server", "http://head:8000"]
    assert words[6] == "--lifeline"
    assert gpus == seen


def test_an_actor_that_is_asked_to_leave_ends_when_its_worker_has_left(
    start: Start, tmp_path: Path, ended: threading.Event
) -> None:
    actor = start()
    told(tmp_path, actor.pid())
    assert not ended.is_set()
    actor.leave()
    assert ended.wait(30)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_worker_that_leaves_by_itself_is_not_started_again(
    start: Start, tmp_path: Path, ended: threading.Event, code: int
) -> None:
    actor = start()
    pid = actor.pid()
    told(tmp_path, pid)
    (tmp_path / "told").write_text(str(code))
    assert ended.wait(30)
    assert actor.pid() == pid


def test_a_worker_that_was_killed_is_started_again(
    start: Start, tmp_path: Path, ended: threading.Event
) -> None:
    actor = start()
    first = actor.pid()
    told(tmp_path, first)
    os.kill(first, signal.SIGKILL)
    until(lambda: actor.pid() != first)
    told(tmp_path, actor.pid())
    assert not ended.is_set()


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/data")
    monkeypatch.delenv("TRIMTAB_TOKEN", raising=False)
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text("the-secret")
    return path


def test_a_dry_run_tells_what_ray_would_be_asked_for(
    token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--workers", "3", "--gpus", "0.5", "--token-file", str(token_file), "--dry-run"]
    assert main([*LAUNCH, *options, "--", "--together", "4"]) == OK
    shown = capsys.readouterr().out
    assert shown.startswith("3 of: ray.remote(WorkerActor).options(name='ray-ID-0', ")
    assert "num_gpus=0.5, num_cpus=1, lifetime='detached', max_restarts=-1" in shown
    assert (
        f"worker start --server http://head:8000 --token-file {token_file} --together 4 --label ray-ID-0"
        in shown
    )
    assert "TRIMTAB_WORKER_ROOTS" in shown
    assert "the-secret" not in shown


def test_without_ray_it_says_how_to_get_it(
    token_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*LAUNCH, "--token-file", str(token_file)]) == FAILED
    complaint = capsys.readouterr().err
    assert "install trimtab with its extra `ray`" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nobody_listens_is_told_at_once(
    token_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    def init(**_: object) -> None:
        pytest.fail("Ray tries for minutes")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = address.format(closed.getsockname()[1])
        assert main([*LAUNCH, "--token-file", str(token_file), "--address", where]) == FAILED
    complaint = capsys.readouterr().err
    assert f"no cluster of Ray answers at {where} (" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("gpus", ["-1", "1.5", "nan", "inf"])
def test_a_share_of_gpus_that_ray_has_not_is_refused(
    token_file: Path, capsys: pytest.CaptureFixture[str], gpus: str
) -> None:
    with pytest.raises(SystemExit):
        main([*LAUNCH, "--token-file", str(token_file), "--dry-run", f"--gpus={gpus}"])
    assert "0, a part of 1, or a whole number" in capsys.readouterr().err
