"""All that the checker looks at: every table, every client's journal, the faults, and the logs of the service."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tests.faults import log
from tests.faults.cluster import Cluster
from tests.faults.log import Op, Window

Row = dict[str, Any]
Held = tuple[int, str, int]
"""What a lease is held on: a trial's id, the kind of lease, and which of its seeds a refit has."""
Key = TypeVar("Key")
Item = TypeVar("Item")

OURS = ("studies", "workers", "artifacts", "trials", "attempts", "reports", "events")
OPTUNAS = (
    "studies",
    "trials",
    "trial_values",
    "trial_intermediate_values",
    "trial_params",
    "trial_system_attributes",
)


@dataclass(frozen=True)
class Facts:
    """What is stored, what the clients were told, and what was done to them. Rows are as Postgres tells them."""

    ours: dict[str, list[Row]]
    optunas: dict[str, list[Row]]
    ops: Sequence[Op] = ()
    windows: Sequence[Window] = ()
    logs: dict[str, str] = field(default_factory=dict[str, str])
    secrets: Sequence[str] = ()
    artifacts: Path | None = None

    @cached_property
    def studies(self) -> dict[int, Row]:
        """Ours, by id."""
        return {row["study_id"]: row for row in self.ours["studies"]}

    @cached_property
    def trials(self) -> dict[Held, Row]:
        """Ours, by what a lease is held on."""
        return {held(row): row for row in self.ours["trials"]}

    @cached_property
    def attempts(self) -> dict[Held, list[Row]]:
        """By what a lease is held on, in the order of their fences."""
        ordered = sorted(self.ours["attempts"], key=lambda row: row["fence"])
        return grouped(ordered, held)

    @cached_property
    def attempt_of(self) -> dict[str, Row]:
        """By lease."""
        return {str(row["lease_id"]): row for row in self.ours["attempts"]}

    @cached_property
    def events(self) -> dict[int, list[Row]]:
        """Those of trials, by trial_id, in the order in which they were stored."""
        ordered = sorted(self.ours["events"], key=lambda row: row["id"])
        return grouped((row for row in ordered if row["trial_id"]), lambda row: row["trial_id"])

    @cached_property
    def leases_told(self) -> list[tuple[Op, Row]]:
        """Every lease that any client was told of, with the claim that it answered."""
        claims = [
            op for op in self.ops if op.verb == "claim" and op.ending == "ok" and op.answer
        ]
        return [(op, lease) for op in claims for lease in op.answer["leases"]]

    @cached_property
    def trained_beside(self) -> set[str]:
        """Leases that were claimed beside a worker's others, and whose reports were accepted."""
        beside = {lease["lease_id"] for op, lease in self.leases_told if op.body.get("beside")}
        return beside & {op.lease for op in self.accepted("reports")}

    @cached_property
    def paused_by_search(self) -> int:
        """How often the search paused a trial, as the events tell."""
        return sum(
            row["kind"] == "trial_paused" and "reason" in row["body"]
            for row in self.ours["events"]
        )

    @cached_property
    def deleted_leases(self) -> set[str]:
        """Leases of studies that are no more."""
        names = {row["name"] for row in self.ours["studies"]}
        return {
            lease["lease_id"] for _, lease in self.leases_told if lease["study"] not in names
        }

    def accepted(self, verb: str) -> list[Op]:
        """Operations of one verb that were answered with 2xx, on leases of studies that still exist."""
        return [
            op
            for op in self.ops
            if op.verb == verb and op.ending == "ok" and op.lease not in self.deleted_leases
        ]


def held(row: Row) -> Held:
    """What a row of trials or of attempts is of."""
    return row["trial_id"], row["kind"], row["seed_index"]


def gather(cluster: Cluster, windows: Sequence[Window], secrets: Sequence[str]) -> Facts:
    """Read everything; the workers have left by now."""
    return Facts(
        ours={table: cluster.rows(f"SELECT * FROM trimtab.{table}") for table in OURS},
        optunas={table: cluster.rows(f"SELECT * FROM public.{table}") for table in OPTUNAS},
        ops=log.read(cluster.journals),
        windows=windows,
        logs={
            path.name: path.read_text(errors="replace") for path in cluster.folder.glob("*.log")
        },
        secrets=secrets,
        artifacts=cluster.folder / "artifacts",
    )


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by key, each list in the order of the items."""
    groups: defaultdict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
