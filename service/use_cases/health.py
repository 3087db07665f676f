"""Whether the service can do its work now."""

from service.storage import studies
from service.use_cases.context import Context


def check(context: Context) -> None:
    """Ask the database for something small.

    Raises:
        Unavailable: it does not answer.
    """
    with context.database.statements() as connection:
        studies.name_taken(connection, "")
