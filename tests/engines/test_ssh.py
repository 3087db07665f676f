"""Workers on a host of a real sshd, which is this machine."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.documents import a_study_document
from tests.support.until import until
from tests.support.workers import server_of
from trimtab.client import Client

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        SSHD is None or shutil.which("ssh") is None,
        reason="there is no sshd on this machine: apt-get install openssh-server",
    ),
]

_CONF = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
"""


@dataclass(frozen=True)
class Host:
    """A host that ssh reaches, by a configuration of ssh's."""

    name: str
    folder: Path
    port: int


@pytest.fixture
def host() -> Generator[Host]:
    with tempfile.TemporaryDirectory(prefix="trimtab-ssh-") as name:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            made = Host("gpu-1", Path(name), taken.getsockname()[1])
        for key in ("host", "user"):
            keygen = [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                str(made.folder / key),
            ]
            subprocess.run(keygen, check=True)
        conf = made.folder / "sshd.conf"
        conf.write_text(_CONF.format(port=made.port, folder=made.folder))
        Path("/run/sshd").mkdir(exist_ok=True)
        daemon = subprocess.Popen(
            [SSHD or "", "-D", "-e", "-f", str(conf)], stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: _listens(made.port))
            yield made
        finally:
            daemon.terminate()
            daemon.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ssh_of(host: Host) -> Path:
    """A folder with an `ssh` that knows the host, as a person's own configuration would."""
    me = f"-o HostName=127.0.0.1 -o User={getpass.getuser()}"
    known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    options = f"-F none -p {host.port} -i {host.folder}/user -o IdentitiesOnly=yes {me} {known}"
    folder = host.folder / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    (folder / "ssh").chmod(0o755)
    return folder


def _runs(cache: Path) -> bool:
    """Whether a process names the folder on its command line."""
    words = str(cache).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in entry.read_bytes():
                return True
        except OSError:
            continue
    return False


def test_a_worker_on_a_host_of_ssh_trains_a_study_and_leaves(
    host: Host, client: Client, tmp_path: Path
) -> None:
    client.create_study(a_study_document(budget={"trials": 2}, fixed={"epochs": 2}))
    program = Path(sys.executable).with_name("trimtab")
    cache = tmp_path / "cache"
    # A host has its own home: this one keeps the worker's log in a folder of the test's.
    wrapper = host.folder / "trimtab"
    wrapper.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    wrapper.chmod(0o755)
    command = [str(program), "worker", "launch", "--ssh", host.name, "--program", str(wrapper)]
    options = ["--workers", "1", "--server", server_of(client)]
    own = ["--device", "cpu", "--threads", "1", "--exit-when-idle", "2"]
    done = subprocess.run(
        [*command, *options, "--", *own, "--cache-dir", str(cache)],
        env={**os.environ, "PATH": f"{ssh_of(host)}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpu-1: 1 started")
    until(lambda: client.study("digits").state == "done", within_s=200)
    assert client.study("digits").progress.completed == 2
    until(lambda: not _runs(cache), within_s=60)
    Path(done.stdout.strip().rpartition(" log to ")[2].replace("*", "0")).unlink()
