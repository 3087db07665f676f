"""The description of a service by itself."""

from trimtab.contract.message import Message


class Info(Message):
    """The version of the service, and the address of its dashboard."""

    version: str
    dashboard: str
