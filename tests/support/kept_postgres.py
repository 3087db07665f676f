"""`python -m tests.support.kept_postgres FOLDER`: an embedded Postgres for one test process after the other.

It prints its address, and stops when its standard input ends.
"""

import sys
from pathlib import Path

from service import embedded

NO_SYNC = {"fsync": "off", "full_page_writes": "off"}
"""What tests lose in a power cut is only their time."""


def main(folder: Path) -> None:
    """Keep the server below this folder."""
    with embedded.running(folder, settings=NO_SYNC) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
