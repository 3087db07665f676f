"""Which completed trial is better: one order for the best, the refits, the final lease, and what is kept of artifacts.

Only those that keep the constraints have a place in it. By the objective value; of equals, by the mean of the second half of the curve, which says that a trial was as good for
longer; then by a lot that is drawn once and for all. Never by how early a trial came, which says nothing.
"""

from collections.abc import Callable, Mapping

from trimtab.contract.metrics import Direction

# Exact: Postgres refuses to average floats whose squares it cannot tell from 0 or from infinity.
_LATE = """(
    SELECT avg(CAST(p.point ->> 1 AS numeric)) FROM jsonb_array_elements(t.curve) WITH ORDINALITY p (point, place)
    WHERE p.place > jsonb_array_length(t.curve) / 2)"""
_LOT = "md5(t.study_id || '/' || t.number)"


def _order(better_first: Callable[[str], str]) -> str:
    return f"{better_first('t.value')}, {better_first(_LATE)} NULLS LAST, {_LOT}"


MAY_WIN = "t.kind = 'trial' AND t.state = 'completed' AND t.feasible"
"""Which trials `t` have a place in the order: those that completed and keep every constraint of their study."""

BEST_FIRST: Mapping[Direction, str] = {
    "maximize": _order(lambda score: f"{score} DESC"),
    "minimize": _order(lambda score: score),
}
"""The order of completed trials `t`; both read `trials_completed` from one of its ends, and sort none but equals."""

BEST_FIRST_OF_ANY = _order(
    lambda score: f"CASE s.direction WHEN 'maximize' THEN -{score} ELSE {score} END"
)
"""The same order, where the direction is that of a study `s`."""
