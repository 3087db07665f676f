"""`trimtab data upload | list | delete`: data sets at the service, for workers to fetch."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from trimtab.cli import tables, terminal
from trimtab.contract.data_addresses import UPLOADED
from trimtab.contract.message import LONGEST_NAME
from trimtab.contract.uploads import UploadedDataset, UploadedDatasets

app = typer.Typer(no_args_is_help=True, help="Data sets at the service, for workers to fetch.")
_ENDINGS = re.compile(r"(\.(tar|tgz|gz|bz2|xz|zip|csv|jsonl))+$")
MEGABYTE = 10**6


@app.command()
def upload(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A folder, an archive or a table.")],
    name: Annotated[
        str | None,
        typer.Option(help="The name that studies find it by.", show_default="that of the file"),
    ] = None,
) -> None:
    """Upload a data set; a study names it `path: trimtab://NAME`, and keeps what it was when the study was created."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.upload_dataset(path, name or name_of(path)), uploaded)


@app.command("list")
def list_datasets(context: typer.Context) -> None:
    """List the data sets that were uploaded."""
    here = terminal.of(context)
    with here.client() as client:
        here.show(client.datasets(), listed)


@app.command()
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The data set's name.")],
) -> None:
    """Delete a data set's name; its bytes go when no study needs them."""
    here = terminal.of(context)
    with here.client() as client:
        client.forget_dataset(name)
    here.err.print(f"{name}: deleted; its bytes go when no study needs them")


def name_of(path: Path) -> str:
    """Return the name that a file's or folder's own comes to."""
    plain = _ENDINGS.sub("", path.resolve().name.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", plain)[:LONGEST_NAME].strip("._-") or "data"


def uploaded(dataset: UploadedDataset) -> RenderableType:
    """Return what a study is to name."""
    size = f"{dataset.bytes / MEGABYTE:,.1f} MB"
    return Text(f"{UPLOADED}://{dataset.name}  {size}  sha256 {dataset.sha256}")


def listed(answer: UploadedDatasets) -> RenderableType:
    """Return the data sets as a table."""
    rows = tables.table("path", "MB", "uploaded", "sha256")
    for one in answer.datasets:
        rows.add_row(
            f"{UPLOADED}://{one.name}",
            f"{one.bytes / MEGABYTE:,.1f}",
            f"{one.uploaded_at:%Y-%m-%d %H:%M}",
            one.sha256[:12],
        )
    return Group(rows)
