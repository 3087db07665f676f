"""The client: a typed verb per endpoint; a refusal comes back as the exception that the service raised."""

from trimtab.client.client import Client

__all__ = ["Client"]
