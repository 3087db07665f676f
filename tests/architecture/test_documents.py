"""What the documents say is what the code does."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_architecture_page_shows_the_ddl_that_the_migration_runs() -> None:
    shown = (ROOT / "ARCHITECTURE.md").read_text().split("```sql\n")[1].split("```")[0]
    assert shown == (ROOT / "migrations/versions/0001_schema.sql").read_text()
