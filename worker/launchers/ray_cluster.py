"""`worker launch --ray`: an actor for each worker on a cluster of Ray, which starts it anew where a node dies.

What Ray does was measured (2.60) and is held against by `tests/engines`:

- A killed node is noticed after some 14 s, a hung one after a minute. The trials of its workers do not wait for that: their
  leases expire, and other workers go on with them.
- The runtime environment of an actor is shown by Ray's API and in its logs. So none is used: the token is in a file, and an
  actor is told its path.
- An actor without a GPU sees the GPUs of whoever started Ray: the worker of such an actor is shown none.
"""

import importlib
import logging
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worker.launchers.launch import CannotLaunch, Launch
from worker.launchers.ray_actor import WorkerActor

NAMESPACE = "trimtab"
AUTO = "auto"
KNOCK_S = 10.0


@dataclass(frozen=True)
class Actors:
    """The actors to create.

    Attributes:
        workers: Their number.
        num_gpus: The GPUs of each; 0: none.
        num_cpus: The CPUs of each.
    """

    workers: int = 1
    num_gpus: float = 1
    num_cpus: int = 1

    def options(self, name: str) -> Mapping[str, Any]:
        """Return the options of one actor in Ray's words."""
        given = {one: value for one, value in asdict(self).items() if one != "workers"}
        # Detached: it outlives this command. Calls are not tried again: none changes anything twice.
        ends = {"lifetime": "detached", "max_restarts": -1, "max_task_retries": 0}
        return {"name": name, "namespace": NAMESPACE, **given, **ends}


def label_of(launch_id: str, number: int) -> str:
    """Return the name of an actor, which is its worker's label too."""
    return f"ray-{launch_id}-{number}"


def new_id() -> str:
    """Return a name for the actors of one launch."""
    return uuid.uuid4().hex[:8]


def words(launch: Launch, label: str) -> list[str]:
    """Return the words of `worker start` for one worker."""
    whole = launch.command()
    return [*whole[whole.index("start") + 1 :], "--label", label]


def plan(launch: Launch, actors: Actors) -> str:
    """Return what would be asked of Ray, for a person."""
    label = label_of("ID", 0)
    settings = ", ".join(sorted(launch.chosen_settings())) or "none"
    options = ", ".join(f"{name}={value!r}" for name, value in actors.options(label).items())
    return (
        f"{actors.workers} of: ray.remote(WorkerActor).options({options})\n"
        f"each runs: worker start {' '.join(words(launch, label))}\n"
        f"settings that are handed on: {settings}"
    )


def start(launch: Launch, actors: Actors, address: str) -> str:
    """Create the actors; return what happens next, for a person.

    Raises:
        CannotLaunch: Ray is not in this Python, or no cluster answers.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise CannotLaunch(
            "Ray is not in this Python: install trimtab with its extra `ray`, here and on the nodes; "
            "--dry-run prints what would be asked of it."
        ) from error
    try:
        _knock(address)
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CannotLaunch(
            f"no cluster of Ray answers at {address} ({first}): start one with `ray start --head`, or name it by --address"
        ) from error
    try:
        launch_id = new_id()
        for number in range(actors.workers):
            name = label_of(launch_id, number)
            remote: Any = ray.remote(WorkerActor)
            remote.options(**actors.options(name)).remote(
                words(launch, name), launch.chosen_settings(), actors.num_gpus > 0
            )
    finally:
        ray.shutdown()
    last = f" to -{actors.workers - 1}" if actors.workers > 1 else ""
    has = f"{actors.num_gpus:g} GPU and {actors.num_cpus} CPU"
    return (
        f"asked for ray-{launch_id}-0{last}: a worker starts where Ray has {has} for it, and leaves by "
        f"`trimtab worker drain {label_of(launch_id, 0)}`"
    )


def _knock(address: str) -> None:
    """Look whether somebody listens: Ray itself would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()
