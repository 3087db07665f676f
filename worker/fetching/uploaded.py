"""Data sets that people have uploaded to the service; named by their content, which therefore never changes."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from trimtab.contract import problems
from trimtab.contract.data_addresses import uploaded_as
from worker.fetching.errors import NoRights, NotThere, Unanswered
from worker.fetching.transfers import Opened, Part, Version


class ServiceCalls(Protocol):
    """What fetching from the service needs of the client."""

    def open_artifact(self, sha256: str, /) -> AbstractContextManager[Iterator[bytes]]:
        """Open the bytes of this sha256 to read them as they come."""
        ...


class Uploaded:
    """Fetches from the service.

    Args:
        client: The client of the service.
    """

    def __init__(self, client: ServiceCalls) -> None:
        self._client = client

    @contextmanager
    def opened(
        self, address: str, known: Version | None, part: Part | None
    ) -> Generator[Opened | None]:
        """Open what was uploaded; None where it is at hand."""
        del part  # The service sends files whole.
        sha256 = uploaded_as(address)
        if sha256 is None:
            # A study that was created by a service without data sets has never had its name settled.
            raise NotThere(address, "the service that created the study did not know this name")
        version = Version(etag=sha256)
        if known == version:
            yield None
            return
        with _named(address), self._client.open_artifact(sha256) as chunks:
            yield Opened(version, 0, _read(address, chunks))


def _read(address: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    with _named(address):
        yield from chunks


@contextmanager
def _named(address: str) -> Generator[None]:
    """Raise a refusal of the service as `FetchError`."""
    try:
        yield
    except problems.Unavailable as error:
        raise Unanswered(address, str(error)) from error
    except (problems.Unauthorized, problems.Forbidden) as error:
        raise NoRights(address, str(error)) from error
    except problems.Problem as error:
        raise NotThere(address, f"the service no longer has it ({error})") from error
