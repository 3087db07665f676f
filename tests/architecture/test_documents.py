"""What the documents say is what the code does."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_architecture_page_shows_the_ddl_that_the_migrations_run() -> None:
    blocks = (ROOT / "ARCHITECTURE.md").read_text().split("```sql\n")[1:]
    run = sorted((ROOT / "migrations/versions").glob("*.sql"))
    assert [block.split("```")[0] for block in blocks] == [file.read_text() for file in run]
