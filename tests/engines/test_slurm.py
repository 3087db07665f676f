"""Workers on a real Slurm of two nodes: a study survives what Slurm does to its jobs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.storage.engine import Database
from tests.support import slurm
from tests.support.documents import a_study_document
from tests.support.protocol_invariants import broken
from tests.support.slurm import Slurm
from tests.support.until import until
from trimtab import lifeline
from trimtab.client import Client
from trimtab.contract.trials import Trial

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    pytest.mark.skipif(slurm.missing() is not None, reason=slurm.missing() or ""),
]

TOKEN = "a-token-that-no-file-of-slurm-may-show"
TRIALS = 6
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def cluster() -> Generator[Slurm]:
    """A Slurm for all of these tests."""
    with tempfile.TemporaryDirectory(
        prefix="trimtab-slurm-", ignore_cleanup_errors=True
    ) as name:
        Path(name).chmod(0o755)
        with slurm.running(Path(name)) as running:
            yield running


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Generator[Client]:
    """A client of a service with a token."""
    child = lifeline.spawn(
        [sys.executable, "-P", "-m", "service", "--port", "0", "--data-dir", str(tmp_path)],
        env={
            **os.environ,
            "TRIMTAB_DATABASE_URL": database_url,
            "TRIMTAB_TOKEN": TOKEN,
            "TRIMTAB_SWEEP_EVERY_S": "0.5",
        },
        stdout=subprocess.PIPE,
    )
    assert child.process.stdout is not None
    with (
        child.process.stdout as announced,
        Client(json.loads(announced.readline())["url"], TOKEN) as opened,
    ):
        yield opened
        child.let_go()
        child.process.wait(30)


@dataclass(frozen=True)
class Launcher:
    """Launches workers as a person does."""

    cluster: Slurm
    server: str
    token_file: Path
    folder: Path

    def __call__(self, *options: str, worker: Sequence[str] = ()) -> str:
        """Run `trimtab worker launch --slurm`; return what it printed."""
        command = [sys.executable, "-m", "trimtab.cli", "worker", "launch", "--slurm"]
        given = ["--server", self.server, "--token-file", str(self.token_file), *options]
        own = ["--device", "cpu", "--threads", "1", "--cache-dir", str(self.folder / "cache")]
        done = subprocess.run(
            [*command, *given, "--", *own, *worker],
            env={**self.cluster.environment, "TRIMTAB_WORKER_STALL_S": "120"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, workers: int) -> str:
        """Launch as many workers; return the id of their job."""
        told = self("--workers", str(workers), worker=("--exit-when-idle", "5"))
        assert f"{workers} worker" in told
        return told.split()[2].rstrip(":")


@pytest.fixture
def launch(cluster: Slurm, client: Client, tmp_path: Path) -> Generator[Launcher]:
    """A launcher of workers for the service; their jobs end with the test."""
    token_file = tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text(TOKEN)
    server = client.info().dashboard.removesuffix("/dashboard")
    yield Launcher(cluster, server, token_file, tmp_path)
    cluster.run("scancel", "--user", "root")
    until(lambda: not cluster.run("squeue", "-h"), within_s=PATIENCE_S)


def a_study(client: Client, epochs: int) -> None:
    document = a_study_document(
        fixed={"epochs": epochs}, budget={"trials": TRIALS}, lease_ttl_s=5.0
    )
    client.create_study(document)


def trials(client: Client) -> list[Trial]:
    return [client.trial("digits", one.number) for one in client.trials("digits").trials]


def running_on(client: Client) -> dict[str, int]:
    """The trials that report, by the label of their worker."""
    return {
        one.attempts[-1].worker: one.number
        for one in trials(client)
        if one.state == "running" and one.curve
    }


def outcomes(client: Client, number: int) -> list[str | None]:
    return [one.outcome for one in client.trial("digits", number).attempts]


def check_the_end(client: Client, database: Database) -> None:
    """The study has its trials, each settled once, and the tables are sound."""
    until(lambda: client.study("digits").state == "done", within_s=PATIENCE_S)
    ended = trials(client)
    assert [(one.number, one.state) for one in ended] == [
        (n, "completed") for n in range(TRIALS)
    ]
    for one in ended:
        settled = [attempt.outcome for attempt in one.attempts]
        assert settled.count("completed") == 1, settled
    assert broken(database) == {}


def test_a_study_over_two_nodes_loses_nothing_when_one_dies(
    cluster: Slurm, client: Client, database: Database, launch: Launcher
) -> None:
    a_study(client, epochs=12)
    job = launch.submit(2)
    until(lambda: len(running_on(client)) == 2, within_s=PATIENCE_S)
    on_two = next(n for n in range(2) if cluster.job(f"{job}_{n}")["BatchHost"] == "two")
    lost = running_on(client)[f"slurm-{job}-{on_two}-0"]
    try:
        cluster.kill_node("two")
        until(lambda: outcomes(client, lost)[0] == "expired", within_s=PATIENCE_S)
        # Slurm queues the job again once it takes the node for dead.
        until(lambda: cluster.job(f"{job}_{on_two}")["Restarts"] == "1", within_s=PATIENCE_S)
        check_the_end(client, database)
    finally:
        cluster.start_node("two")
    shown = cluster.run("scontrol", "write", "batch_script", f"{job}_0", "-")
    assert "worker start" in shown
    assert TOKEN not in shown
    # The controller keeps the script and the environment of each job in its files.
    kept = [path for path in (cluster.folder / "state").rglob("*") if path.is_file()]
    assert any(path.name == "environment" for path in kept)
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize("how", ["notice", "requeue"])
def test_a_job_that_has_to_make_way_is_queued_again_and_loses_nothing(
    cluster: Slurm, client: Client, database: Database, launch: Launcher, how: str
) -> None:
    a_study(client, epochs=12)
    job = launch.submit(1)
    until(lambda: bool(running_on(client)), within_s=PATIENCE_S)
    (number,) = running_on(client).values()
    if how == "notice":  # as `--signal` sends it: to the job's script alone
        cluster.run("scancel", "--batch", "--signal=USR1", f"{job}_0")
    else:
        cluster.run("scontrol", "requeue", f"{job}_0")
    until(lambda: outcomes(client, number)[0] is not None, within_s=PATIENCE_S)
    until(lambda: cluster.job(f"{job}_0")["Restarts"] == "1", within_s=PATIENCE_S)
    first = client.trial("digits", number).attempts[0]
    assert first.outcome == "drained"
    assert client.trial("digits", number).crashes == 0
    # Slurm lets a job that was queued again wait for two minutes; another one goes on where the first was.
    launch.submit(1)
    check_the_end(client, database)


@pytest.mark.parametrize(
    ("how", "becomes"),
    [(("--full", "--signal=TERM"), "COMPLETED"), ((), "CANCELLED")],
    ids=["asked to end", "cancelled"],
)
def test_a_job_that_is_ended_gives_its_trial_back(
    cluster: Slurm, client: Client, launch: Launcher, how: Sequence[str], becomes: str
) -> None:
    a_study(client, epochs=50)
    job = launch.submit(1)
    until(lambda: bool(running_on(client)), within_s=PATIENCE_S)
    (number,) = running_on(client).values()
    cluster.run("scancel", *how, job)
    until(lambda: outcomes(client, number) == ["drained"], within_s=PATIENCE_S)
    until(lambda: cluster.job(f"{job}_0")["JobState"] == becomes, within_s=PATIENCE_S)
    assert cluster.job(f"{job}_0")["Restarts"] == "0"
    assert client.trial("digits", number).state == "queued"


def test_workers_without_work_leave_and_are_not_queued_again(
    cluster: Slurm, client: Client, launch: Launcher
) -> None:
    job = launch.submit(1)
    until(lambda: bool(client.workers().workers), within_s=PATIENCE_S)
    until(lambda: cluster.job(f"{job}_0")["JobState"] == "COMPLETED", within_s=PATIENCE_S)
    assert (cluster.job(f"{job}_0")["Restarts"], cluster.job(f"{job}_0")["ExitCode"]) == (
        "0",
        "0:0",
    )


def test_what_a_dry_run_prints_is_accepted_by_slurm_itself(
    cluster: Slurm, launch: Launcher, tmp_path: Path
) -> None:
    options = ("--workers", "8", "--at-once", "2", "--time", "1:00:00", "--partition", "main")
    script = tmp_path / "workers.sh"
    script.write_text(
        launch("--dry-run", *options, "--cpus", "1", "--sbatch", "comment=trimtab")
    )
    cluster.run("sbatch", "--test-only", str(script))
    assert not cluster.run("squeue", "-h")


def test_what_slurm_refuses_is_told_in_its_words(cluster: Slurm, launch: Launcher) -> None:
    with pytest.raises(AssertionError, match=r"sbatch refused: .*invalid partition"):
        launch("--partition", "nowhere")
    assert not cluster.run("squeue", "-h")
