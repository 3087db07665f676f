"""The script of a Slurm job: what it says, and what it does when Slurm sends signals; real Slurm is in `tests/engines`."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.until import until
from worker.__main__ import FAILED, OK, USAGE, main
from worker.launchers import slurm
from worker.launchers.launch import Launch

LAUNCH = ["launch", "--slurm", "--server", "http://head:8000"]
TOKEN = "a-token-that-no-script-may-show"

WORKER = """#!/usr/bin/env python3
import pathlib, signal, sys
heard = []
def on_signal(number, frame):
    heard.append(signal.Signals(number).name)
for one in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(one, on_signal)
pathlib.Path("started").write_text(" ".join(sys.argv[1:]))
while not heard and not pathlib.Path("idle").exists():
    signal.sigtimedwait([], 0.02)
pathlib.Path("heard").write_text(" ".join(heard))
sys.exit(7 if heard and "fails" in sys.argv else 0)
"""
SCONTROL = '#!/bin/sh\necho "$@" > requeued\n'


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TRIMTAB_TOKEN", raising=False)
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/data sets:/more")
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN)
    return path


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main([*LAUNCH, "--dry-run", *options]) == OK
    told = capsys.readouterr()
    assert told.err == ""
    return told.out.splitlines()


def test_the_script_is_an_array_of_workers_on_a_gpu_each(
    token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--workers",
        "8",
        "--at-once",
        "2",
        "--time",
        "4:00:00",
        "--partition",
        "gpu",
        "--cpus",
        "4",
    )
    lines = printed(
        capsys,
        "--token-file",
        str(token_file),
        *options,
        "--sbatch=--account=mine",
        "--",
        "--together",
        "4",
    )
    assert lines[0] == "#!/bin/bash"
    assert [
        line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")
    ] == [
        "job-name=trimtab",
        "array=0-7%2",
        "ntasks=1",
        "partition=gpu",
        "time=4:00:00",
        "cpus-per-task=4",
        "gres=gpu:1",
        "signal=B:USR1@120",
        "requeue",
        "open-mode=append",
        "export=NONE",
        "output=trimtab-%A_%a.log",
        "account=mine",
    ]
    (start,) = (line for line in lines if " worker start " in line)
    assert f"start --server http://head:8000 --token-file {token_file} --together 4 " in start
    assert start.endswith('--grace 25 --exit-when-idle 60 --label "$label" &')
    assert "export TRIMTAB_WORKER_ROOTS='/data sets:/more'" in lines
    assert TOKEN not in "\n".join(lines)
    checked = subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, check=False)
    assert checked.returncode == 0


def test_what_is_given_wins_over_what_is_usual(
    token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--grace=9", "--exit-when-idle", "5")
    lines = printed(capsys, "--token-file", str(token_file), "--gres", "none", "--", *given)
    (start,) = (line for line in lines if " worker start " in line)
    assert "--grace=9 --exit-when-idle 5 --label" in start
    assert not any("gres" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--", "--server", "http://other"], FAILED, "--server is the launcher's own"),
        (["--", "--label=mine"], FAILED, "--label is the launcher's own"),
        (["--", "--device", "gpu7"], USAGE, "device: must be auto, cpu, cuda or cuda:N"),
        (["--partition", "a\nb"], FAILED, "is no option of sbatch"),
        (["--time", " "], FAILED, "is no option of sbatch"),
        ([], FAILED, "Slurm is not on this machine: there is no `sbatch` on the PATH"),
    ],
    ids=str,
)
def test_what_cannot_be_launched_is_told_in_one_line(
    token_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([*LAUNCH, "--token-file", str(token_file), *options]) == code
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1


def test_a_token_of_the_environment_is_not_sent_in_the_open(
    token_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_TOKEN", TOKEN)
    assert main([*LAUNCH, "--dry-run"]) == FAILED
    told = capsys.readouterr()
    assert "umask 077" in told.err
    assert TOKEN not in told.err + told.out
    assert TOKEN not in "\n".join(printed(capsys, "--token-file", str(token_file)))


def test_workers_that_would_all_refuse_to_start_are_not_launched(
    token_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIMTAB_WORKER_ROOTS")
    assert main([*LAUNCH, "--dry-run", "--token-file", str(token_file)]) == FAILED
    assert "set TRIMTAB_WORKER_ROOTS" in capsys.readouterr().err


def test_an_address_of_this_machine_alone_is_warned_of(
    token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["launch", "--slurm", "--dry-run", "--server", "http://127.0.0.1:8000"]
    assert main([*here, "--token-file", str(token_file)]) == OK
    assert "workers elsewhere cannot reach it" in capsys.readouterr().err


@pytest.fixture
def job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Generator[subprocess.Popen[bytes]]:
    """The script as a job runs it, with a worker and a scontrol that write down what they are told."""
    for name, text in (("worker", WORKER), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text.replace("/usr/bin/env python3", sys.executable))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "worker"))
    options = getattr(request, "param", ())
    text = slurm.script(Launch("http://head:8000", None, options, settings={}), slurm.Array())
    (tmp_path / "job.sh").write_text(text)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "2",
    }
    bash = shutil.which("bash") or ""
    process = subprocess.Popen([bash, "job.sh"], cwd=tmp_path, env=environment)
    try:
        until((tmp_path / "started").exists)
        yield process
    finally:
        (tmp_path / "idle").touch()
        process.wait(30)


def test_a_notice_is_handed_on_and_the_job_is_queued_again(
    job: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert "--label slurm-7-3-2" in (tmp_path / "started").read_text()
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert (tmp_path / "heard").read_text() == "SIGUSR1"
    assert (tmp_path / "requeued").read_text() == "requeue 7_3\n"


@pytest.mark.parametrize("job", [("fails",)], indirect=True)
def test_a_job_that_is_asked_to_end_is_not_queued_again_and_ends_as_its_worker(
    job: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 7
    # No second SIGTERM: it would cut the checkpoint short.
    assert (tmp_path / "heard").read_text() == "SIGUSR1"
    assert not (tmp_path / "requeued").exists()


def test_a_worker_that_leaves_for_want_of_work_is_not_started_again(
    job: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (tmp_path / "idle").touch()
    assert job.wait(30) == 0
    assert not (tmp_path / "requeued").exists()
