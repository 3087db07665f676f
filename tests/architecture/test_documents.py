"""What the documents say is what the code does."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_architecture_page_shows_the_ddl_that_the_migrations_run_in_their_order() -> None:
    _, *blocks = (ROOT / "ARCHITECTURE.md").read_text().split("```sql\n")
    migrations = sorted((ROOT / "migrations/versions").glob("*.sql"))
    assert [block.split("```")[0] for block in blocks] == [
        path.read_text() for path in migrations
    ]
