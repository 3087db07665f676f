"""`worker launch --ssh HOST`: workers on machines that the system's ssh reaches, one for each of their GPUs.

What a host is to do is a script for its shell, and comes by ssh's standard input: the token in it is on no command line,
and is kept on the host in a file that its user alone can read. The workers go on when ssh has left.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from worker.launchers.launch import CannotLaunch, Launch, ask, engine

SSH = ("-T", "-o", "ConnectTimeout=10")
HIDDEN = "(the token)"
"""Stands for the token where the script is shown."""
_END = "END-OF-THE-TOKEN"


def script(launch: Launch, token: str | None, workers: int | None, program: str) -> str:
    """Return the script for a host's shell.

    Args:
        launch: The workers to start; its token file is not read.
        token: The service's token; None: it has none.
        workers: The number of workers; None: one for each GPU, or a single one where there is none.
        program: The command `trimtab` on the host.
    """
    name = f"token-{hashlib.sha256(launch.server.encode()).hexdigest()[:12]}"
    known = replace(launch, token_file=None if token is None else Path(name))
    command = shlex.join(known.command(program, "worker")).replace(
        f"--token-file {name}", f'--token-file "$folder/{name}"'
    )
    lines = [
        "set -eu",
        'folder="${XDG_STATE_HOME:-$HOME/.local/state}/trimtab"',
        'mkdir -p "$folder"',
        f"command -v {shlex.quote(program)} > /dev/null || {{",
        f"    echo there is no command {shlex.quote(program)}: name it by --program >&2",
        "    exit 1",
        "}",
        *(() if token is None else _keep(name, token)),
        *launch.exports(),
        "gpus=$(nvidia-smi -L 2> /dev/null | grep -c ^GPU || true)",
        f"workers={'$gpus' if workers is None else workers}",
        '[ "$workers" -gt 0 ] || workers=1',
        "worker=0",
        'while [ "$worker" -lt "$workers" ]; do',
        '    if [ "$gpus" -gt 0 ]; then export CUDA_VISIBLE_DEVICES=$((worker % gpus)); fi',
        f'    setsid {command} >> "$folder/worker-$worker.log" 2>&1 < /dev/null &',
        "    worker=$((worker + 1))",
        "done",
        'echo "$workers started, which log to $folder/worker-*.log"',
        "",
    ]
    return "\n".join(lines)


def _keep(name: str, token: str) -> list[str]:
    """Return the lines that keep the token where the user alone can read it."""
    new = f'"$folder/{name}.new"'
    return [
        "usual=$(umask)",
        "umask 077",
        f"cat > {new} <<'{_END}'",
        token,
        _END,
        "# A worker that starts meanwhile reads the whole of one.",
        f'mv {new} "$folder/{name}"',
        'umask "$usual"',
    ]


def start(hosts: Sequence[str], text: str) -> list[str]:
    """Run the script on each host; return what each of them answered, for a person.

    Raises:
        CannotLaunch: ssh is not here, or some hosts could not be reached or refused; the others have started theirs.
    """
    ssh = engine("ssh", "ssh", "where it is")
    told: list[str] = []
    failed: list[str] = []
    for host in hosts:
        try:
            told.append(f"{host}: {ask([ssh, *SSH, '--', host, 'sh', '-s'], text)}")
        except CannotLaunch as error:
            failed.append(f"{host}: {error}")
    if failed:
        started = f"; started: {'; '.join(told)}" if told else ""
        raise CannotLaunch(f"{'; '.join(failed)}{started}")
    return told
