"""The seal on the test split: no trial can be chosen by the pictures that its winner is tested on."""

from dataclasses import dataclass
from typing import ClassVar

from trimtab.contract.trials import FailureKind


class TestSplitSealed(Exception):
    """Something other than the final evaluation asked for the test split."""

    __test__ = False  # Else pytest collects it for the beginning of its name.
    kind: ClassVar[FailureKind] = "user_error"

    def __init__(self, asking: str) -> None:
        super().__init__(
            f"a lease of kind {asking!r} asked for the sealed test split; only a final one may open it"
        )


@dataclass(frozen=True, slots=True)
class Seal:
    """The right to open the test split. Only a final lease gives it.

    Attributes:
        lease_kind: The kind of the lease that is being run, `trial` or `final`.

    Raises:
        TestSplitSealed: The lease is not a final one.
    """

    lease_kind: str

    def __post_init__(self) -> None:
        """Refuse every other lease."""
        if self.lease_kind != "final":
            raise TestSplitSealed(self.lease_kind)
