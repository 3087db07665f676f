"""A mutant as its file tells it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One patch and the tests that must notice it."""

    name: str
    patch: Path
    tests: tuple[str, ...]
    files: frozenset[str]

    @classmethod
    def read(cls, patch: Path) -> "Mutant":
        """Parse the header lines, and those that say which files it breaks."""
        lines = patch.read_text().splitlines()
        tests = tuple(
            line.removeprefix("# test:").strip() for line in lines if line.startswith("# test:")
        )
        files = frozenset(
            line[len("+++ b/") :] for line in lines if line.startswith(("--- a/", "+++ b/"))
        )
        return cls(patch.stem, patch, tests, files)

    @property
    def needs_postgres(self) -> bool:
        """Whether a server that is kept saves its tests one of their own; what breaks servers is to meet its own."""
        broken = any(file.startswith("service/embedded") for file in self.files)
        return not broken and needs_postgres(self.tests)

    def is_of(self, changed: Collection[str], root: Path) -> bool:
        """Whether it breaks one of these files, one holds a test that it names, or one is its own."""
        own = {self.patch.relative_to(root).as_posix()}
        own |= self.files | {test.partition("::")[0] for test in self.tests}
        return not own.isdisjoint(changed)


def needs_postgres(tests: Sequence[str]) -> bool:
    """Whether these tests may use a database."""
    return any(test.startswith(("tests/integration/", "tests/conformance/")) for test in tests)
