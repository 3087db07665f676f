"""A Slurm of two nodes on this machine, each with one GPU that is a file: munge, controller and nodes as processes."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.until import until

NODES = ("one", "two")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")

_CONF = """
ClusterName=trimtab
SlurmctldHost={host}
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
MpiDefault=none
SwitchType=switch/none
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} Gres=gpu:1
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} Gres=gpu:1
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there is no Slurm here; None: there is."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"Slurm is not on this machine ({', '.join(absent)}): apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "two nodes of Slurm on one machine run as root alone"


@dataclass
class Slurm:
    """The cluster.

    Attributes:
        folder: Its files.
        processes: The pids by name: munge, controller, one, two.
    """

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(
        default_factory=dict[str, subprocess.Popen[bytes]]
    )

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs of Slurm need, to find this one."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *argv: str) -> str:
        """Run a program of Slurm; return what it answered."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout.strip()

    def job(self, name: str) -> dict[str, str]:
        """What the controller says of one job."""
        told = self.run("scontrol", "--oneliner", "show", "job", name)
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start one of its own processes."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [shutil.which(argv[0]) or argv[0], *argv[1:]],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start_node(self, name: str) -> None:
        """Start a node."""
        self.start(name, ["slurmd", "-D", "-N", name])

    def kill_node(self, name: str) -> None:
        """Take a node away: all that runs on it, as without power."""
        self.processes[name].kill()
        self.processes[name].wait()
        for pid in self.on_node(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def on_node(self, name: str) -> list[int]:
        """The pids of the jobs' processes on a node, and of the daemons that look after them."""
        of_job = f"SLURMD_NODENAME={name}".encode()
        mine = [pid for pid in _pids() if of_job in _read(pid, "environ").split(b"\0")]
        parents = {_parent(pid) for pid in mine}
        return [*mine, *(pid for pid in parents if b"slurmstepd" in _read(pid, "cmdline"))]

    def stop(self) -> None:
        """End all of it."""
        subprocess.run(
            ["scancel", "--user", "root"], env=self.environment, check=False, timeout=30
        )
        for name in NODES:
            if name in self.processes:
                self.kill_node(name)
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    after_name = _read(pid, "stat").rpartition(b")")[2].split()
    return int(after_name[1]) if after_name else 0


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


@contextmanager
def running(folder: Path) -> Generator[Slurm]:
    """Run a Slurm until the block ends, whose files lie in an empty folder that all may walk to."""
    slurm = Slurm(folder)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    (folder / "state").mkdir()
    gpus = [f"NodeName={name} Name=gpu File={folder}/gpu-{name}" for name in NODES]
    for name in NODES:
        (folder / f"gpu-{name}").touch()
    (folder / "gres.conf").write_text("\n".join(gpus) + "\n")
    conf = _CONF.format(
        host=socket.gethostname(), ports=_free_ports(3), folder=folder, cpus=os.cpu_count()
    )
    (folder / "slurm.conf").write_text(conf)
    at = {
        "--key-file": "munge.key",
        "--socket": "munge.sock",
        "--pid-file": "munge.pid",
        "--log-file": "munge.log",
        "--seed-file": "munge.seed",
    }
    try:
        places = [f"{option}={folder / name}" for option, name in at.items()]
        slurm.start("munge", ["munged", "--foreground", "--force", *places])
        until((folder / "munge.sock").exists)
        slurm.start("controller", ["slurmctld", "-D"])
        for name in NODES:
            slurm.start_node(name)
        until(lambda: slurm.run("sinfo", "-h", "-t", "idle", "-o", "%D") == str(len(NODES)))
        yield slurm
    finally:
        slurm.stop()
