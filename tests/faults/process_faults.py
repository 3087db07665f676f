"""Faults of processes: workers, their runners, replicas, Postgres."""

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.faults.cluster import until
from tests.faults.stage import Stage


def kill_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.member.kill()
    worker.member.start()
    return worker.member.name


def terminate_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.member.leave()
    worker.member.start()
    return worker.member.name


def pause_worker(stage: Stage) -> str:
    """Beyond its lease: what it says when it wakes comes from the past."""
    worker = stage.worker()
    worker.member.kill(signal.SIGSTOP)
    stage.until_passed_on(worker)
    worker.member.kill(signal.SIGCONT)
    return worker.member.name


def kill_runner(stage: Stage) -> str:
    worker = stage.worker()
    for pid in worker.runner_pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return worker.member.name


def kill_replica(stage: Stage) -> str:
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.kill()
    time.sleep(stage.chance.uniform(0, 2))
    replica.start()
    return replica.name


def kill_every_replica(stage: Stage) -> str:
    for replica in stage.cluster.replicas:
        replica.kill()
    for replica in stage.cluster.replicas:
        replica.start()
    return "all"


def terminate_replica(stage: Stage) -> str:
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.leave()
    replica.start()
    return replica.name


def pause_replica(stage: Stage) -> str:
    """It may hold row locks meanwhile."""
    replica = stage.chance.choice(stage.cluster.replicas)
    replica.kill(signal.SIGSTOP)
    time.sleep(stage.chance.uniform(0.5, 4))
    replica.kill(signal.SIGCONT)
    return replica.name


def restart_postgres(stage: Stage) -> str:
    """An immediate shutdown; its keeper starts it again."""
    with stage.cluster.postgres_guard:
        _end_postgres(stage, signal.SIGQUIT)
        stage.cluster.value("SELECT 1")
    return "postgres"


def stop_postgres(stage: Stage) -> str:
    """Down for seconds: its keeper is stopped meanwhile."""
    cluster = stage.cluster
    with cluster.postgres_guard:
        os.kill(cluster.postgres.keeper_pid, signal.SIGSTOP)
        _end_postgres(stage, stage.chance.choice((signal.SIGINT, signal.SIGQUIT)))
        time.sleep(stage.chance.uniform(2, 6))
        os.kill(cluster.postgres.keeper_pid, signal.SIGCONT)
        cluster.value("SELECT 1")
    return "postgres"


def _end_postgres(stage: Stage, number: signal.Signals) -> None:
    pid = stage.cluster.postmaster()
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    until(lambda: _has_ended(pid), 20)


def _has_ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
