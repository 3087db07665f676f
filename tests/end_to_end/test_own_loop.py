"""Loops of a person's own in processes of their own, one of which is killed in the middle of a trial."""

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from service.storage.engine import Database
from tests.support.own_loops import an_external_document
from tests.support.until import until
from trimtab.client import Client

LOOP = """
import sys, time
from pathlib import Path
from trimtab import Client

address, label, folder, last = sys.argv[1:]
with Client(address) as client, client.trial("own", label=label) as trial:
    begun = 0 if trial.resume is None else int(trial.resume.read_text())
    assert begun == trial.first_step
    state = Path(folder, "state")
    for step in range(begun, 6):
        assert trial.report(step, accuracy=step / 10)
        state.write_text(str(step + 1))
        trial.save(state)
        print(step, flush=True)
        if step == int(last):
            time.sleep(3600)
assert "torch" not in sys.modules
"""


def test_a_killed_loops_trial_goes_on_elsewhere_from_its_checkpoint(
    client: Client, database: Database, tmp_path: Path
) -> None:
    client.create_study(an_external_document(budget={"trials": 1}))
    program = tmp_path / "loop.py"
    program.write_text(LOOP)

    def command(label: str, last: int) -> list[str]:
        folder = tmp_path / label
        folder.mkdir()
        return [sys.executable, str(program), client.server, label, str(folder), str(last)]

    with subprocess.Popen(command("one", 2), stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert [first.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
        first.kill()
    # What the killed process does not renew runs out; a crash waits for a few seconds before it is tried again.
    _run(database, "UPDATE trimtab.trials SET lease_until = trimtab.now() - interval '1 s'")
    until(lambda: client.trial("own", 0).state == "queued")
    _run(database, "UPDATE trimtab.trials SET not_before = trimtab.now()")
    told = subprocess.run(
        command("two", -1), stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    assert told.stdout == "3\n4\n5\n"
    seen = client.trial("own", 0)
    assert (seen.state, seen.value, seen.crashes) == ("completed", 0.5, 1)
    assert [point.value for point in seen.curve] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert [(one.worker, one.outcome) for one in seen.attempts] == [
        ("one", "expired"),
        ("two", "completed"),
    ]
    assert client.study("own").state == "done"


def _run(database: Database, sql: str) -> None:
    with database.transaction() as connection:
        connection.execute(text(sql))
