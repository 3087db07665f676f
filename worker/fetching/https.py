"""Files by HTTP: asked for only if they have changed (RFC 9110, 13), and from where an earlier try broke off (14)."""

import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import httpx2

from worker.fetching.allowed import Allowed
from worker.fetching.errors import NoRights, NotThere, Unanswered
from worker.fetching.transfers import Opened, Part, Version

TIMEOUT_S = 30.0
_MOST_REDIRECTS = 10
_NO_RIGHTS = (401, 403, 407)
_LATER = (408, 425, 429)
_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<all>\d+)")
_UNCHANGED, _PARTIAL, _NOT_SATISFIABLE, _FAULTS = 304, 206, 416, 500


class Https:
    """Fetches by https, and by http where that is allowed.

    Args:
        allowed: The addresses that may be fetched from; those that others lead to are judged too.
        transport: The carrier of the requests; None is the network.
    """

    def __init__(self, allowed: Allowed, transport: httpx2.BaseTransport | None = None) -> None:
        self._allowed = allowed
        self._transport = transport

    @contextmanager
    def opened(
        self, address: str, known: Version | None, part: Part | None
    ) -> Generator[Opened | None]:
        """Open a file; None where it has not changed."""
        headers = {"Accept-Encoding": "identity", **_conditions(known, part)}
        with ExitStack() as stack:
            stack.enter_context(_named(address))
            response = self._answer(stack, address, headers)
            if response.status_code == _NOT_SATISFIABLE and part is not None:
                # It has fewer bytes now than have arrived of it.
                response = self._answer(stack, address, {"Accept-Encoding": "identity"})
            version = _version(response)
            if response.status_code == _UNCHANGED or (known and version.is_same(known)):
                yield None
                return
            _raise_for(address, response)
            offset = _offset(address, response, part)
            yield Opened(version, offset, _chunks(address, response))

    def _answer(
        self, stack: ExitStack, address: str, headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Return the answer to a request, behind all redirects, each of which is judged before it is followed."""
        client = stack.enter_context(
            httpx2.Client(timeout=TIMEOUT_S, transport=self._transport, follow_redirects=False)
        )
        target = httpx2.URL(address)
        for _ in range(_MOST_REDIRECTS):
            response = stack.enter_context(client.stream("GET", target, headers=headers))
            if not response.has_redirect_location:
                return response
            target = response.url.join(response.headers["location"])
            self._allowed.check(str(target), from_address=address)
        raise NotThere(address, f"it leads on more than {_MOST_REDIRECTS} times")


def _conditions(known: Version | None, part: Part | None) -> dict[str, str]:
    if part is not None and (validator := _strong(part.version)):
        return {"Range": f"bytes={part.bytes}-", "If-Range": validator}
    if known is None:
        return {}
    asked = {"If-None-Match": known.etag, "If-Modified-Since": known.changed}
    return {name: value for name, value in asked.items() if value}


def _strong(version: Version) -> str | None:
    """Return what tells versions apart byte by byte, which a weak ETag does not."""
    is_weak = version.etag is None or version.etag.startswith("W/")
    return version.changed if is_weak else version.etag


def _version(response: httpx2.Response) -> Version:
    headers = response.headers
    size = headers.get("content-length")
    if response.status_code == _PARTIAL:
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        size = found["all"] if found else None
    elif "content-encoding" in headers:
        # What is counted there are other bytes than those that are read.
        size = None
    return Version(
        etag=headers.get("etag"),
        changed=headers.get("last-modified"),
        bytes=int(size) if size and size.isdecimal() else None,
    )


def _offset(address: str, response: httpx2.Response, part: Part | None) -> int:
    if response.status_code != _PARTIAL:
        return 0
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if part is None or found is None or int(found["first"]) != part.bytes:
        raise NotThere(address, "its server answers with another range than it was asked for")
    return part.bytes


def _raise_for(address: str, response: httpx2.Response) -> None:
    if response.is_success:
        return
    code = response.status_code
    said = f"{code} {response.reason_phrase}"
    if code in _NO_RIGHTS:
        raise NoRights(address, said)
    if code in _LATER or code >= _FAULTS:
        raise Unanswered(address, said)
    raise NotThere(address, f"nothing can be fetched there ({said})")


def _chunks(address: str, response: httpx2.Response) -> Iterator[bytes]:
    with _named(address):
        # As they come: what waits for a whole chunk is lost when the transfer breaks off.
        yield from response.iter_bytes()


@contextmanager
def _named(address: str) -> Generator[None]:
    """Raise what a request meets as `FetchError`."""
    try:
        yield
    except httpx2.TransportError as error:
        raise Unanswered(address, str(error) or type(error).__name__) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise NotThere(address, str(error) or type(error).__name__) from error
