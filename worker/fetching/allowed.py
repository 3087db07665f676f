"""Which addresses a study may make this worker fetch from: those that whoever runs the worker has named.

It is to the network what `worker/data/roots.py` is to the disk. What was uploaded to the service may always be fetched
from it. Every address that another leads to is judged as well.
"""

import ipaddress
import posixpath
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from trimtab.contract.data_addresses import SCHEMES, UPLOADED, divided
from worker.fetching.errors import AddressDenied

_PORTS = {"https": 443, "http": 80}
_NEVER = (
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fe80::/10"),
    ipaddress.ip_network("fd00:ec2::/32"),
)
"""Where clouds tell a machine its secrets: what `/proc` is to the disk."""
_EVERYTHING = "https://, s3:// and gs://, but for addresses of the link"


def _resolve(host: str) -> tuple[str, ...]:
    try:
        return tuple(str(found[4][0]) for found in socket.getaddrinfo(host, None))
    except OSError:
        # Nobody is there, or a proxy knows the name: whoever fetches will find out.
        return ()


@dataclass(frozen=True, slots=True)
class Allowed:
    """The addresses that may be fetched from.

    Attributes:
        prefixes: The beginnings of allowed addresses: scheme, host and port, and folders of the path.
        everything: Whether all may be fetched from where no prefix is given, but what is never data.
        resolve: Returns the numbers of a host.
    """

    prefixes: tuple[str, ...] = ()
    everything: bool = False
    resolve: Callable[[str], Iterable[str]] = _resolve

    def check(self, address: str, *, from_address: str | None = None) -> None:
        """Refuse an address that may not be fetched from.

        Args:
            address: The address.
            from_address: The address that led to it, if one did.

        Raises:
            AddressDenied: It is none of those that may be.
        """
        parts = urlsplit(divided(address)[0])
        if parts.scheme == UPLOADED and from_address is None:
            return
        if self.prefixes:
            is_allowed = any(_is_below(parts, urlsplit(each)) for each in self.prefixes)
        else:
            is_allowed = self.everything and self._is_harmless(parts)
        if not is_allowed:
            raise AddressDenied(address, self._told(), from_address=from_address)

    def _is_harmless(self, parts: SplitResult) -> bool:
        # Nothing protects what comes by http on its way: whoever wants that names it.
        if parts.scheme in ("s3", "gs"):
            return True
        host = parts.hostname or ""
        return parts.scheme == "https" and not any(map(_is_never, (host, *self.resolve(host))))

    def _told(self) -> str:
        if self.prefixes:
            return " and ".join(self.prefixes)
        return _EVERYTHING if self.everything else "nowhere but the service"


def fault_of(prefix: str) -> str | None:
    """Say in words why a text is not the beginning of addresses, if it is not."""
    parts = urlsplit(prefix)
    if "://" in prefix and parts.scheme in SCHEMES and not (parts.query or parts.fragment):
        return None
    return f"{prefix!r} is not the beginning of addresses, such as https://data.example.org/sets/ or s3://bucket"


def _is_below(parts: SplitResult, allowed: SplitResult) -> bool:
    if parts.scheme != allowed.scheme:
        return False
    if not allowed.netloc:
        return True
    if (parts.hostname, _port(parts)) != (allowed.hostname, _port(allowed)):
        return False
    # Of a bucket, any text is a name; a server may take `..`, and `%2e%2e` for it, as a way out of a folder.
    read = _normal if parts.scheme in _PORTS else str
    path, folder = read(parts.path), read(allowed.path).rstrip("/")
    return path == folder or path.startswith(f"{folder}/")


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _normal(path: str) -> str:
    plain = unquote(path)
    return posixpath.normpath(f"/{plain.lstrip('/')}") if plain else "/"


def _is_never(host: str) -> bool:
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(number, "ipv4_mapped", None)
    return any((mapped or number) in network for network in _NEVER)
