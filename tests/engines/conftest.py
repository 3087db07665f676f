"""A service process for each test, as in the tests from end to end."""

from tests.end_to_end.conftest import client

__all__ = ["client"]
