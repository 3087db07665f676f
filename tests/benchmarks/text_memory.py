"""A process that prepares one table of texts and goes once through its training split; prints its peak memory.

`python -m tests.benchmarks.text_memory TABLE FOLDER CACHE` prints JSON: megabytes of memory of its own (`anonymous`, without
files that the system can drop at any time) and in all (`resident`), the most of each.
"""

import json
import sys
import threading
from pathlib import Path

from trimtab.contract.tasks import Task
from worker import data
from worker.data.modality import TokenSpec
from worker.data.text.tokenizer import sha256_of

LENGTH = 64
BATCH = 256
EVERY_S = 0.02


def main() -> None:
    """Prepare, read, tell."""
    table, folder, cache = sys.argv[1:4]
    most, done = {"anonymous": 0.0, "resident": 0.0}, threading.Event()
    watching = threading.Thread(target=_watch, args=(most, done))
    watching.start()
    dataset = {"kind": "csv", "path": table, "text": "text", "targets": ["label"]}
    task = Task.model_validate({"kind": "classification", "dataset": dataset})
    wanted = TokenSpec(Path(folder), sha256_of(Path(folder)), LENGTH)
    seen = data.load(task, cache_dir=Path(cache), wanted=wanted)
    for begin in range(0, len(seen.train), BATCH):
        seen.train.inputs[begin : begin + BATCH].sum()
    done.set()
    watching.join()
    sys.stdout.write(json.dumps({**most, "rows": sum(seen.counts.values())}) + "\n")


def _watch(most: dict[str, float], done: threading.Event) -> None:
    while not done.wait(EVERY_S):
        lines = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        for name, field in (("anonymous", "RssAnon"), ("resident", "VmRSS")):
            most[name] = max(most[name], int(lines[field].split()[0]) / 1024)


if __name__ == "__main__":
    main()
