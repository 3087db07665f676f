"""HTTP under the client: requests with retries; a refusal becomes a `Problem`, an answer a message."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
import stamina
from pydantic import BaseModel, TypeAdapter, ValidationError

from trimtab.contract import problems
from trimtab.contract.message import Message
from trimtab.loopback import is_loopback

Answer = TypeVar("Answer", bound=BaseModel)
Outcome = TypeVar("Outcome")

LARGEST_PORT = 65535

OVERLOADED = frozenset({502, 503, 504})
"""Statuses of a temporary trouble: the service restarts, or a proxy in front of it waits for it."""


class Wire:
    """The address of one service, its token and a pool of connections. Threads may share it.

    Every request of the contract may be repeated safely, so all of them are retried: after transport errors and after
    the statuses 502, 503 and 504, for `retry_for_s` seconds in all. Retry-After sets the pace.
    """

    def __init__(
        self,
        server: str,
        token: str | None,
        *,
        timeout_s: float,
        retry_for_s: float,
        transport: httpx2.BaseTransport | None,
    ) -> None:
        self.server = server
        self.timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        address = _parse_address(server)
        with _named_proxy():
            self._http = httpx2.Client(
                base_url=address,
                headers=_headers(token),
                timeout=timeout_s,
                transport=transport,
                # A proxy from the environment cannot reach the loopback of this machine.
                trust_env=not is_loopback(address.host),
            )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        body: Message | None = None,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> httpx2.Response:
        """Send a message and return the whole answer, for which the service may take `wait_s` seconds longer.

        Raises:
            problems.Problem: the refusal; `Unreachable` where no trimtab service answers.
        """
        content = None if body is None else body.model_dump_json().encode()
        sent = {"Content-Type": "application/json"} if body is not None else {}

        def once() -> httpx2.Response:
            response = self._http.request(
                method,
                path,
                content=content,
                params=params,
                headers={**sent, **(headers or {})},
                timeout=httpx2.Timeout(self.timeout_s, read=self.timeout_s + wait_s),
            )
            self._raise_for(response)
            return response

        return self.retry(once)

    def retry(self, once: Callable[[], Outcome]) -> Outcome:
        """Call `once` until it succeeds, is refused, or `retry_for_s` seconds have passed."""
        deadline = time.monotonic() + self._retry_for_s

        def pause(error: Exception) -> bool | float:
            if self._http.is_closed or not isinstance(error, problems.Unavailable):
                return False
            asked = error.retry_after_s
            if time.monotonic() + (asked or 0) >= deadline:
                return False
            return True if asked is None else asked

        for attempt in stamina.retry_context(
            pause, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0, wait_jitter=0.1
        ):
            with attempt, self.named_errors():
                return once()
        raise AssertionError("the retries end with an answer or an exception")

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Generator[httpx2.Response]:
        """Open one streamed answer. It is not retried, because only its reader knows where to go on."""
        with self.named_errors(), self._http.stream("GET", path, headers=headers) as response:
            if response.is_error:
                response.read()
            self._raise_for(response)
            yield response

    def put(self, path: str, content: Any, headers: Mapping[str, str]) -> None:
        """Send raw bytes once; `content` is anything that httpx2 can send."""
        self._raise_for(self._http.put(path, content=content, headers=headers))

    @contextmanager
    def named_errors(self) -> Generator[None]:
        """Raise transport errors as `problems.Unreachable`, with the address and what to do."""
        try:
            yield
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise problems.Unreachable(
                f"No trimtab service answers at {self.server} ({reason}). Start one with `trimtab up`, "
                "or name another one with --server or TRIMTAB_SERVER."
            ) from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise problems.Unreachable(f"The client of {self.server} is closed.") from error

    def parse(self, answer: type[Answer], response: httpx2.Response) -> Answer:
        """Read an answer; fields that a newer service has added are ignored."""
        try:
            return answer.model_validate_json(response.content, extra="ignore")
        except ValidationError:
            raise self._stranger(response) from None

    def _raise_for(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        if not response.is_error:
            raise self._stranger(response)
        raise _problem(response)

    def _stranger(self, response: httpx2.Response) -> problems.Unreachable:
        return problems.Unreachable(
            f"The answer from {self.server} is not one of a trimtab service of this version "
            f"({response.request.method} {response.request.url.path}: status {response.status_code}). "
            "Check the address (--server or TRIMTAB_SERVER) and the versions of service and client."
        )


def _problem(response: httpx2.Response) -> problems.Problem:
    """Return the exception for an error answer, whether the service sent it or a proxy in front of it."""
    document: Mapping[str, Any] = {}
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        document = _json_object(response)
    status = 503 if response.status_code in OVERLOADED else response.status_code
    general = {
        "type": "about:blank",
        "title": response.reason_phrase,
        "status": status,
        "detail": f"The server answered {response.status_code} {response.reason_phrase}.",
        "retry_after_s": _retry_after(response),
    }
    try:
        return problems.from_document({**general, **document})
    except ValidationError:
        return problems.from_document(general)


def _json_object(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        document = TypeAdapter(dict[str, Any]).validate_json(response.content)
    except ValidationError:
        return {}
    return {key: value for key, value in document.items() if value is not None}


def _retry_after(response: httpx2.Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isascii() and seconds.isdecimal() else None


def _parse_address(server: str) -> httpx2.URL:
    try:
        address = httpx2.URL(server)
    except httpx2.InvalidURL:
        address = httpx2.URL("")
    is_port = address.port is None or address.port <= LARGEST_PORT
    if address.scheme not in ("http", "https") or not address.host or not is_port:
        raise problems.Unreachable(
            f"{server!r} is not the address of a service; an address looks like http://127.0.0.1:8000."
        )
    return address


@contextmanager
def _named_proxy() -> Generator[None]:
    """Tell in words that the environment names a proxy that cannot be used; never its address, which may have a password."""
    try:
        yield
    except ImportError:
        why = "a SOCKS proxy needs the Python package `socksio`, which is not installed"
    except (ValueError, httpx2.InvalidURL):
        why = "its address does not begin with http://, https://, socks5:// or socks5h://"
    else:
        return
    raise problems.Unreachable(
        f"The proxy that the environment names (ALL_PROXY, HTTPS_PROXY or HTTP_PROXY) cannot be used: {why}. "
        "Change it, or run this command without it."
    )


def _headers(token: str | None) -> dict[str, str]:
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise problems.Unauthorized(
            "The token has spaces or other characters that cannot be sent: check --token or TRIMTAB_TOKEN."
        )
    return {"Authorization": f"Bearer {token}"}
