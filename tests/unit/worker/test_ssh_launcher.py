"""Workers on hosts of ssh: what a host is told, and what its shell makes of it; a real sshd is in `tests/engines`."""

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.support.until import until
from worker.__main__ import FAILED, OK, USAGE, main

LAUNCH = ["launch", "--server", "http://head:8000"]
TOKEN = "a-token-that-no-command-line-may-show"

SSH = """#!/bin/sh
echo "$@" >> "$ASKED"
for word in "$@"; do case $word in down*) echo "ssh: connect to host $word: No route to host" >&2; exit 255;; esac; done
exec sh -s
"""
TRIMTAB = """#!{python}
import json, os, pathlib, sys
argv = sys.argv[1:]
token = pathlib.Path(argv[argv.index("--token-file") + 1]) if "--token-file" in argv else None
told = {{
    "argv": argv,
    "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
    "roots": os.environ.get("TRIMTAB_WORKER_ROOTS"),
    "token": token and token.read_text(),
    "mode": token and token.stat().st_mode,
}}
print(json.dumps(told), flush=True)
"""
GPUS = "#!/bin/sh\necho 'GPU 0: one'\necho 'GPU 1: two'\n"


class Hosts:
    """Hosts that are this machine, with a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.asked = folder / "asked"
        self.bin = folder / "bin"
        for made in (self.home, self.bin):
            made.mkdir()
        self.add("ssh", SSH)
        self.add("trimtab", TRIMTAB.format(python=sys.executable))

    def add(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def told(self, workers: int) -> list[str]:
        """What each worker was told, in JSON, once all have said so."""
        logs = [self.home / f".local/state/trimtab/worker-{n}.log" for n in range(workers)]
        until(lambda: all(log.exists() and log.read_text().endswith("\n") for log in logs))
        return [log.read_text() for log in logs]


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    made = Hosts(tmp_path)
    for name in ("XDG_STATE_HOME", "CUDA_VISIBLE_DEVICES", "TRIMTAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("ASKED", str(made.asked))
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("TRIMTAB_WORKER_ROOTS", "/data sets")
    return made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def test_a_worker_starts_for_each_gpu_with_the_token_in_a_file_of_its_own(
    hosts: Hosts, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts.add("nvidia-smi", GPUS)
    options = ["--token-file", str(token_file), "--ssh", "me@gpu-1", "--", "--together", "4"]
    assert main([*LAUNCH, *options]) == OK
    assert capsys.readouterr().out.startswith("me@gpu-1: 2 started, which log to ")
    told = hosts.told(2)
    for number, one in enumerate(told):
        assert f'"gpu": "{number}"' in one
        assert f'"token": "{TOKEN}\\n"' in one
        assert '"roots": "/data sets"' in one
        assert '["worker", "start", "--server", "http://head:8000", "--token-file", ' in one
        assert '"--together", "4"]' in one
        assert f'"mode": {stat.S_IFREG | 0o600}' in one
    assert hosts.asked.read_text().split()[-4:] == ["--", "me@gpu-1", "sh", "-s"]
    assert TOKEN not in hosts.asked.read_text()


def test_a_host_without_a_gpu_has_one_worker_and_the_token_of_the_environment_goes_too(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.add("nvidia-smi", "#!/bin/sh\nexit 9\n")
    monkeypatch.setenv("TRIMTAB_TOKEN", TOKEN)
    assert main([*LAUNCH, "--ssh", "cpu-1"]) == OK
    (told,) = hosts.told(1)
    assert '"gpu": null' in told
    assert f'"token": "{TOKEN}\\n"' in told


def test_a_service_without_a_token_gets_workers_without_one(hosts: Hosts) -> None:
    assert main([*LAUNCH, "--ssh", "cpu-1", "--workers", "2"]) == OK
    assert all('"token": null' in told for told in hosts.told(2))


def test_a_host_that_cannot_be_reached_is_told_and_the_others_start(
    hosts: Hosts, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--token-file", str(token_file), "--workers", "1"]
    assert main([*LAUNCH, *options, "--ssh", "down-1", "--ssh", "up-1"]) == FAILED
    complaint = capsys.readouterr().err
    assert "down-1: ssh refused: ssh: connect to host down-1: No route to host" in complaint
    assert "started: up-1: 1 started" in complaint
    hosts.told(1)


def test_a_dry_run_shows_the_script_without_the_token(
    hosts: Hosts, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--token-file", str(token_file), "--ssh", "gpu-1", "--dry-run"]
    assert main([*LAUNCH, *options]) == OK
    shown = capsys.readouterr().out
    assert "trimtab worker start --server http://head:8000" in shown
    assert TOKEN not in shown
    assert not hosts.asked.exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--ssh=-oProxyCommand=touch"], FAILED, "is no host"),
        (["--ssh", "two words"], FAILED, "is no host"),
        (["--ssh", "gpu-1", "--program", "/nowhere/trimtab"], FAILED, "name it by --program"),
        (
            ["--ssh", "gpu-1", "--", "--token-file", "x"],
            FAILED,
            "--token-file is the launcher's own",
        ),
        (["--ssh", "gpu-1", "--", "--device", "gpu7"], USAGE, "device: must be auto"),
    ],
    ids=str,
)
def test_what_cannot_be_launched_is_told_in_one_line(
    hosts: Hosts, capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str
) -> None:
    assert main([*LAUNCH, *options]) == code
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not list(hosts.home.rglob("*.log"))


def test_without_ssh_it_says_so(
    hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([*LAUNCH, "--ssh", "gpu-1"]) == FAILED
    assert "ssh is not on this machine" in capsys.readouterr().err
    assert not hosts.asked.exists()
