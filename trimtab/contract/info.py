"""What a service says of itself."""

from trimtab.contract.message import Message


class Info(Message):
    """Its version, and where its dashboard is."""

    version: str
    dashboard: str
