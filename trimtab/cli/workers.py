"""`trimtab worker ...`: start one here, see those of a service, and ask them to leave."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.console import RenderableType
from rich.text import Text

from trimtab.cli import handover, launching, terminal
from trimtab.cli.figures import table
from trimtab.contract.problems import WorkerNotFound
from trimtab.contract.workers import Worker, Workers, WorkerState

STYLES: dict[WorkerState, str] = {"draining": "yellow", "gone": "dim", "quarantined": "red"}

app = typer.Typer(no_args_is_help=True, help="Lend this machine's devices to a service.")
app.command()(handover.start)
app.command()(launching.launch)


@app.command("list")
def list_workers(
    context: typer.Context,
    show_all: Annotated[
        bool, typer.Option("--all", help="Those that have gone, too.", show_default=False)
    ] = False,
) -> None:
    """List the workers of the service, the last registered first."""
    here = terminal.of(context)
    with here.client() as client:
        found = client.workers().workers
    listed = Workers(workers=tuple(one for one in found if show_all or one.state != "gone"))
    here.show(listed, lambda shown: _table(shown, datetime.now(UTC)))


@app.command()
def drain(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="WORKER...",
            help="The id of a worker, or its label, which several may have: then all of them.",
        ),
    ],
) -> None:
    """Ask workers to store checkpoints, give their trials back and leave; they get no more trials."""
    here = terminal.of(context)
    with here.client() as client:
        chosen = list(_chosen(client.workers().workers, names))
        drained = Workers(workers=tuple(client.drain_worker(each) for each in chosen))
    here.show(drained, lambda shown: _table(shown, datetime.now(UTC)))


def _chosen(workers: Sequence[Worker], names: Sequence[str]) -> Iterator[UUID]:
    """Yield the ids that are meant, each once.

    Raises:
        WorkerNotFound: no worker that is there has such an id or label.
    """
    by_id: dict[UUID, None] = {}
    for name in names:
        meant = [one.worker_id for one in workers if _is_meant(one, name)]
        if not meant:
            raise WorkerNotFound(
                f"No worker that is there has the id or the label {name!r}: `{terminal.program()} worker list` shows them."
            )
        by_id |= dict.fromkeys(meant)
    yield from by_id


def _is_meant(worker: Worker, name: str) -> bool:
    if str(worker.worker_id) == name.lower():
        return True
    return worker.label == name and worker.state != "gone"


def _table(listed: Workers, now: datetime) -> RenderableType:
    if not listed.workers:
        return Text("no workers are there: `trimtab worker start` starts one")
    rows = table("worker", "state", "device", "memory", "leases", "seen", "id")
    for one in listed.workers:
        memory = "-" if one.memory_bytes is None else f"{one.memory_bytes / 1e9:.1f} GB"
        rows.add_row(
            one.label,
            Text(one.state, style=STYLES.get(one.state, "green")),
            _device(one),
            memory,
            f"{one.running}/{one.capacity}",
            _ago(now - one.last_seen),
            str(one.worker_id),
        )
    return rows


def _device(worker: Worker) -> str:
    several = f" and {worker.devices - 1} more" if worker.devices > 1 else ""
    return worker.device + (several if worker.study is None else f" of {worker.study}")


def _ago(passed: timedelta) -> str:
    seconds = max(0, round(passed.total_seconds()))
    if seconds < 60:
        return f"{seconds} s ago"
    minutes = seconds // 60
    return f"{minutes} min ago" if minutes < 60 else f"{minutes // 60} h ago"
