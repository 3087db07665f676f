"""The seal on the test split."""

from dataclasses import dataclass
from typing import ClassVar

from trimtab.contract.trials import FailureKind


class TestSplitSealed(Exception):
    """Something other than the final evaluation asked for the test split."""

    __test__ = False  # No test of pytest's, whatever its name begins with.
    kind: ClassVar[FailureKind] = "user_error"

    def __init__(self, asking: str) -> None:
        super().__init__(
            f"a lease of kind {asking!r} asked for the sealed test split; only a final one may open it"
        )


@dataclass(frozen=True, slots=True)
class Seal:
    """The right to open the test split, which a final lease alone gives.

    Attributes:
        lease_kind: Of the lease that is being run.

    Raises:
        TestSplitSealed: It is not a final one.
    """

    lease_kind: str

    def __post_init__(self) -> None:
        """Refuse every other lease."""
        if self.lease_kind != "final":
            raise TestSplitSealed(self.lease_kind)
