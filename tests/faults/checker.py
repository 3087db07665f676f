"""Verifies the invariants I1 to I26 from the tables, the events and what the clients were told.

Each violation names its invariant and the rows that show it. The rules are spread over three modules by what they look at:
`of_tables` (what is stored at the end), `of_events` (the order in which it was stored), `of_clients` (what was promised).
"""

from collections.abc import Callable, Iterator, Mapping

from tests.faults import of_clients, of_events, of_tables
from tests.faults.facts import Facts
from tests.faults.violation import Violation

RULES: Mapping[str, Callable[[Facts], Iterator[Violation]]] = {
    **of_tables.RULES,
    **of_events.RULES,
    **of_clients.RULES,
}


def check(facts: Facts) -> list[Violation]:
    """Every violation of every rule."""
    return [violation for rule in RULES.values() for violation in rule(facts)]
