"""Who holds a lease: everyone else's words are refused."""

from typing import NoReturn

from service.storage.leases import LeaseFacts
from trimtab.contract.problems import LeaseLost, LeaseNotFound


def live(facts: LeaseFacts | None) -> LeaseFacts:
    """Return what was read of a lease that is still held.

    Raises:
        LeaseNotFound, LeaseLost: it is not.
    """
    if facts is None or not facts.is_live:
        refuse(facts)
    return facts


def refuse(facts: LeaseFacts | None) -> NoReturn:
    """Say that the lease is held no more, or that there never was one.

    Raises:
        LeaseNotFound, LeaseLost: always one of them.
    """
    if facts is None:
        raise LeaseNotFound
    raise LeaseLost(state=facts.outcome)
