"""The ways of fetching, by the scheme of an address."""

from collections.abc import Mapping

from trimtab.contract.data_addresses import UPLOADED
from worker.fetching import uploaded
from worker.fetching.allowed import Allowed
from worker.fetching.buckets import Buckets
from worker.fetching.https import Https
from worker.fetching.transfers import Origin
from worker.fetching.uploaded import Uploaded


def of(allowed: Allowed, client: uploaded.ServiceCalls) -> Mapping[str, Origin]:
    """Return them all.

    Args:
        allowed: The addresses that may be fetched from.
        client: The client of the service.
    """
    https = Https(allowed)
    return {
        "https": https,
        "http": https,
        UPLOADED: Uploaded(client),
        "s3": Buckets("s3"),
        "gs": Buckets("gs"),
    }
