"""A service that has some artifacts, for tests of those who fetch them."""

from dataclasses import dataclass, field
from pathlib import Path

from trimtab.contract import problems


@dataclass
class Artifacts:
    """Has them, once it is there; counts what was brought."""

    by_sha256: dict[str, bytes] = field(default_factory=dict[str, bytes])
    absent_for: int = 0
    downloads: int = 0

    def download(self, sha256: str, path: Path) -> Path:
        """Bring one, as the client does."""
        if self.absent_for:
            self.absent_for -= 1
            raise problems.Unreachable
        if sha256 not in self.by_sha256:
            raise problems.ArtifactNotFound
        self.downloads += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.by_sha256[sha256])
        return path
