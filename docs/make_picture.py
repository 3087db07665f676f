"""Draws docs/images/demo.svg from a real run of the demo: `.venv/bin/python docs/make_picture.py`."""

import io
import re
import tempfile
import time
from pathlib import Path

from rich.console import Console

from trimtab.cli import board, demo, demo_studies, handover, terminal, up, watch
from trimtab.cli.family import Family
from trimtab.cli.watch import Snapshot, count_settled
from trimtab.client import Client

PICTURE = Path(__file__).parent / "images" / "demo.svg"
SHOWN_SETTLED = 11
"""The live view is drawn once so many trials have settled."""


def main() -> None:
    """Run the demo in a folder of its own, keep one moment of it and its end, and draw them."""
    console = Console(
        record=True,
        width=104,
        force_terminal=True,
        file=io.StringIO(),
        markup=False,
        highlight=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        family = Family(
            Path(folder), handover.environment(None), terminal.console(stderr=True).print
        )
        with family.until_asked():
            _run(family, Path(folder), console)
    PICTURE.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="./run demo")
    # A picture that fetches nothing: the reader's own monospaced font will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def _run(family: Family, folder: Path, console: Console) -> None:
    begun = time.monotonic()
    here = terminal.Terminal(None, None, "table", console, terminal.console(stderr=True))
    address = up.start(family, here, "127.0.0.1", 0)
    up.start_workers(family, address, None, threads=demo.THREADS)
    with Client(address.url) as client:
        plain = demo_studies.create(client, "digits-plain", demo_studies.plain_document)
        for _ in watch.follow(client, plain.name, check=family.check):
            pass
        study = demo_studies.create(client, "digits", demo_studies.document)
        snapshots = list(watch.follow(client, study.name, check=family.check))
        winner = demo.find_winner(
            client, client.study(study.name), folder, client.study(plain.name)
        )
    console.print(board.board(_middle(snapshots)))
    console.print(demo.result(winner, winner.figures(time.monotonic() - begun)))


def _middle(snapshots: list[Snapshot]) -> Snapshot:
    enough = (s for s in snapshots if count_settled(s.study) >= SHOWN_SETTLED)
    return next(enough, snapshots[-1])


if __name__ == "__main__":
    main()
