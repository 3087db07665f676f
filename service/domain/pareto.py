"""Which of several trials are the best compromises of two objectives."""

from collections.abc import Sequence

from trimtab.contract.metrics import Direction

Values = tuple[float, float]


def front(values: Sequence[Values], directions: tuple[Direction, Direction]) -> list[int]:
    """Return the places of the values that no other ones dominate, the best of the first objective first.

    One dominates another that is no better in either objective, and worse in one: of equals, all stay, in their order.

    Args:
        values: The values of the trials.
        directions: Whether more or less of each objective is better.
    """
    first, second = (1 if one == "minimize" else -1 for one in directions)
    signed = [(first * one, second * other) for one, other in values]
    found: list[int] = []
    for place in sorted(range(len(signed)), key=lambda place: (*signed[place], place)):
        last = signed[found[-1]] if found else None
        if last is None or signed[place][1] < last[1] or signed[place] == last:
            found.append(place)
    return found
