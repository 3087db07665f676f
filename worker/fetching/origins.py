"""The ways of fetching, by the scheme of an address."""

from collections.abc import Mapping

from worker.fetching.allowed import Allowed
from worker.fetching.https import Https
from worker.fetching.transfers import Origin


def of(allowed: Allowed) -> Mapping[str, Origin]:
    """Return them all.

    Args:
        allowed: The addresses that may be fetched from.
    """
    https = Https(allowed)
    return {"https": https, "http": https}
