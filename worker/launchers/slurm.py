"""`worker launch --slurm`: an array of jobs, each of which is one worker on one GPU.

What Slurm does was measured (22.05) and is held against by `tests/engines`:

- `--signal=B:USR1@120` goes to the job's script alone, up to a minute early: a notice, never a countdown. So the script
  hands it to its worker, which stores a checkpoint and gives its trial back, and then asks for the job to be queued again.
- A job that is queued again waits for two minutes and has the same id: its worker's label counts the restarts, and its
  output is appended.
- The script of a node that is taken for dead may run on beside its successor. The service's leases are fenced: what
  the older one still says is refused.
- The environment of a job lies in plain text in the controller's files: `--export=NONE`, and the token by a file.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from worker.launchers.launch import Launch, ask, engine

NO_GRES = "none"
GRACE_S = 25
"""Seconds to store a checkpoint in: below the 30 after which Slurm kills what it has asked to end (KillWait)."""
EXIT_WHEN_IDLE_S = 60
NOTICE_S = 120
NAME = "trimtab"


@dataclass(frozen=True)
class Array:
    """The array of jobs.

    Attributes:
        jobs: The number of jobs, each with one worker.
        at_once: The most that run at a time; None: as many as Slurm gives.
        partition: The partition; None: Slurm's default.
        time: The limit of one job in a form of Slurm's; None: the partition's.
        cpus: The number of CPUs of a job; None: Slurm's default.
        gres: The generic resource of a job; `none`: no GPU.
        extra: Further options of sbatch, without their dashes.
    """

    jobs: int = 1
    at_once: int | None = None
    partition: str | None = None
    time: str | None = None
    cpus: int | None = None
    gres: str = "gpu:1"
    extra: Sequence[str] = ()

    def directives(self) -> list[str]:
        """Return the options of sbatch, as they stand in its script."""
        throttle = "" if self.at_once is None else f"%{self.at_once}"
        given = {
            "partition": self.partition,
            "time": self.time,
            "cpus-per-task": self.cpus,
            "gres": None if self.gres == NO_GRES else self.gres,
        }
        return [
            f"job-name={NAME}",
            f"array=0-{self.jobs - 1}{throttle}",
            "ntasks=1",
            *(f"{name}={value}" for name, value in given.items() if value is not None),
            f"signal=B:USR1@{NOTICE_S}",
            "requeue",
            "open-mode=append",
            "export=NONE",
            f"output={NAME}-%A_%a.log",
            *self.extra,
        ]


def script(launch: Launch, array: Array) -> str:
    """Return the script of the jobs."""
    words = launch.command()
    command = [*map(shlex.quote, words), *_usual(launch.options), "--label", '"$label"']
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{directive}" for directive in array.directives()),
        "",
        "# A job that is queued again keeps its id.",
        'label="slurm-${SLURM_ARRAY_JOB_ID}-${SLURM_ARRAY_TASK_ID}-${SLURM_RESTART_COUNT:-0}"',
        'job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        *launch.exports(),
        "notice=",
        "worker=",
        "# USR1 and not TERM, which reaches the worker as well: a second TERM would cut its checkpoint short.",
        'hand_on() { [ -z "$worker" ] || kill -USR1 "$worker" 2>/dev/null; }',
        "trap 'notice=yes; hand_on' USR1",
        "trap 'hand_on' TERM",
        " ".join(command) + " &",
        "worker=$!",
        '[ -z "$notice" ] || hand_on',
        "# A signal ends `wait` before the worker has left.",
        "while :; do",
        '    wait "$worker"',
        "    code=$?",
        '    [ "$code" -gt 128 ] && kill -0 "$worker" 2>/dev/null || break',
        "done",
        "# Its trial was given back, and there is more to do. One that left for want of work is not started again.",
        '[ -z "$notice" ] || scontrol requeue "$job"',
        'exit "$code"',
        "",
    ]
    return "\n".join(lines)


def _usual(options: Sequence[str]) -> list[str]:
    """Return what a worker of a batch system needs beside the options that were given."""
    usual = {"--grace": GRACE_S, "--exit-when-idle": EXIT_WHEN_IDLE_S}
    named = {option.partition("=")[0] for option in options}
    return [
        word
        for name, value in usual.items()
        if name not in named
        for word in (name, str(value))
    ]


def submit(launch: Launch, array: Array) -> str:
    """Hand the jobs to Slurm; return what happens next, for a person.

    Raises:
        CannotLaunch: Slurm is not here, or refuses.
    """
    sbatch = engine("sbatch", "Slurm", "where jobs are submitted")
    job = ask([sbatch, "--parsable"], script(launch, array)).partition(";")[0]
    workers = "1 worker" if array.jobs == 1 else f"{array.jobs} workers"
    return (
        f"submitted job {job}: {workers}, which leave when there is nothing to do. "
        f"`squeue --job {job}` shows them; `scancel --full --signal=TERM {job}` lets them store checkpoints and leave."
    )
