"""What users and workers import: the contract, the client and the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trimtab.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """Load `Client` when it is asked for: most importers of this package need no HTTP."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trimtab.client import Client

    return Client
