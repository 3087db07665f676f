"""Addresses of data sets that are not files of the workers: `https://`, `s3://`, `gs://`, and `trimtab://` of the service.

What follows a `#` is a path inside of what is fetched, such as the table of an archive.
"""

import re
from urllib.parse import urlsplit

from trimtab.contract.datasets import (
    CsvDataset,
    Dataset,
    ImageFolderDataset,
    JsonlDataset,
    TorchvisionDataset,
)
from trimtab.contract.message import LONGEST_NAME

UPLOADED = "trimtab"
"""The scheme of data sets that were uploaded to the service, by name or by the sha256 of what was uploaded."""
SCHEMES = ("https", "http", "s3", "gs", UPLOADED)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def scheme_of(path: str) -> str | None:
    """Return the scheme of an address; None where the text is the path of a file."""
    found = _SCHEME.match(path)
    return None if found is None else found["scheme"].lower()


def divided(address: str) -> tuple[str, str]:
    """Return what is fetched, and the path inside of it that is meant; empty is the whole."""
    fetched, _, inside = address.partition("#")
    return fetched, inside


def shown(address: str) -> str:
    """Return an address as messages show it: without its query, in which signed addresses have their signature."""
    fetched, inside = divided(address)
    plain = fetched.partition("?")[0]
    return f"{plain}#{inside}" if inside else plain


def place_of(dataset: Dataset) -> str | None:
    """Return the path or address of the files of a data set; None where it has none."""
    match dataset:
        case ImageFolderDataset(path=path) | CsvDataset(path=path) | JsonlDataset(path=path):
            return path
        case TorchvisionDataset(root=root):
            return root
        case _:
            return None


def uploaded_as(address: str) -> str | None:
    """Return the sha256 of what was uploaded, if that is what an address of the service names."""
    name = divided(address)[0].partition("://")[2]
    return name if scheme_of(address) == UPLOADED and _SHA256.fullmatch(name) else None


def fault_of(dataset: Dataset) -> str | None:
    """Say in words what is wrong with the address of a data set, if anything is."""
    place = place_of(dataset)
    scheme = None if place is None else scheme_of(place)
    if place is None or scheme is None:
        return None
    if isinstance(dataset, TorchvisionDataset):
        return "workers download a public data set by its name: name the folder on the workers that is to hold it"
    if scheme not in SCHEMES:
        return f"data are fetched from https://, s3://, gs:// and trimtab://, and not from {scheme}://"
    return _fault(place, scheme)


def _fault(address: str, scheme: str) -> str | None:
    fetched, inside = divided(address)
    try:
        parts = urlsplit(fetched)
        credentials, host, _ = parts.username or parts.password, parts.hostname, parts.port
    except ValueError:
        return "is not an address: look at its host and port"
    if credentials:
        return (
            "an address has no name or password, which the study would show: give them to the workers, or sign the "
            "address"
        )
    if not host:
        return f"the address names no {'bucket' if scheme in ('s3', 'gs') else 'host or name'} behind {scheme}://"
    if inside.startswith("/") or ".." in inside.split("/"):
        return "the path behind # stays inside of what is fetched: it has no .. and does not begin with /"
    if scheme == UPLOADED and len(host) > LONGEST_NAME and uploaded_as(address) is None:
        return "a data set of the service is named trimtab://NAME, or trimtab:// and the sha256 of what was uploaded"
    return None
