"""A broken promise."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """Which invariant, what is wrong, and the rows that show it."""

    invariant: str
    text: str
    rows: tuple[Any, ...] = ()

    def __str__(self) -> str:
        """One paragraph."""
        return "\n    ".join(
            [f"{self.invariant}: {self.text}", *(_short(row) for row in self.rows)]
        )


def _short(row: Any) -> str:
    text = str(row)
    return text if len(text) < 1500 else text[:1500] + " ..."
