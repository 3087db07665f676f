"""Addresses and queries of requests."""

from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from trimtab.contract import problems
from trimtab.contract.message import Name


def of_study(name: str) -> str:
    """Return the path of a study.

    Raises:
        problems.StudyNotFound: nothing can have this name.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise problems.StudyNotFound(
            f"{name!r} cannot be the name of a study: a name has 1 to 63 of the characters a-z, 0-9, '.', '_' and '-'."
        ) from None
    return f"/v1/studies/{quote(name, safe='')}"


def of_page(page_size: int, page_token: str | None) -> dict[str, str | int]:
    """Return the query that asks for a page of a list."""
    return {"page_size": page_size} | ({"page_token": page_token} if page_token else {})
