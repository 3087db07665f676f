"""What can go wrong in fetching a data set; each message says what is wrong, where, and what to do.

FetchError                  a worker without these data is set aside for the study, and others are asked
├── AddressDenied           whoever runs the worker has not allowed the address
├── NotThere                nothing is at the address, or there is no such bucket
├── NoRights                the address is not open to this worker
├── Unanswered              nobody answers, or not for long: tried again for a while
├── ExtraMissing            the library for these addresses is not installed
├── NotInside               what was fetched does not have what the study names in it
├── TooLarge                it does not fit into the cache
├── NoRoom                  the disk is full, or the cache cannot be written to
├── ArchiveUnreadable       it is cut short, or not in order
└── ArchiveUnsafe           an archive with files that lead out of it
Abandoned                   no error: the trial was asked to end meanwhile
"""

from typing import ClassVar

from trimtab.contract.data_addresses import shown
from trimtab.contract.trials import FailureKind


class Abandoned(Exception):
    """The fetch was left because its trial is to end; what has arrived stays for the next try."""


class FetchError(Exception):
    """A data set that cannot be fetched to this worker; `kind` is how the trial that needs it fails.

    Args:
        address: The address of the data set.
        reason: The fault, in words.
        advice: The remedy, in words.
    """

    kind: ClassVar[FailureKind] = "data_missing"

    def __init__(self, address: str, reason: str, advice: str) -> None:
        super().__init__(f"{shown(address)}: {reason}; {advice}")


class AddressDenied(FetchError):
    """An address that this worker may not fetch from, whether there is something or not."""

    def __init__(self, address: str, allowed: str, *, from_address: str | None = None) -> None:
        led = "" if from_address is None else f" (where {shown(from_address)} leads)"
        super().__init__(
            address,
            f"this worker does not fetch from there{led}, but from {allowed}",
            "correct the address in the study, or let whoever runs the worker add it to TRIMTAB_WORKER_ADDRESSES",
        )


class NotThere(FetchError):
    """Nothing is at the address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason, "correct `task.dataset.path`, or put the data there")


class NoRights(FetchError):
    """The address wants a name, a password or other rights."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            address,
            f"this worker has no right to read it ({reason})",
            "give the worker's environment the credentials of one who may read there, or name a signed address",
        )


class Unanswered(FetchError):
    """Nobody answers at the address, or the answer breaks off. To try again may help."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            address,
            f"it cannot be fetched now ({reason})",
            "look whether this machine reaches it, then resume the study",
        )


class ExtraMissing(FetchError):
    """The library for addresses of this kind is not installed."""

    def __init__(self, address: str, library: str, extra: str) -> None:
        super().__init__(
            address,
            f"needs {library}, which is not installed on this worker",
            f"pip install 'trimtab[{extra}]' there",
        )


class NotInside(FetchError):
    """What the study names is not in what was fetched."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            address,
            reason,
            "name its path there behind a #, such as data.zip#flowers/table.csv",
        )


class TooLarge(FetchError):
    """The data set does not fit into the cache beside what is in use there."""

    def __init__(self, address: str, size: int, over: int) -> None:
        super().__init__(
            address,
            f"has {size / 1e9:.2f} GB or more, {over / 1e9:.2f} GB more than the worker's cache has room for beside what "
            "is in use",
            "give the worker a larger --cache-gb, or a larger disk with --cache-dir",
        )


class NoRoom(FetchError):
    """The cache cannot be written to."""

    kind: ClassVar[FailureKind] = "infrastructure"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            address,
            f"cannot be kept in the worker's cache ({reason})",
            "make room, or set another folder with --cache-dir",
        )


class ArchiveUnreadable(FetchError):
    """An archive that is cut short or broken, or of a kind that is not read."""

    kind: ClassVar[FailureKind] = "user_error"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            address,
            f"cannot be unpacked ({reason})",
            "publish the data as a .zip or .tar file, also .tar.gz, .tar.bz2 or .tar.xz, or a table as it is",
        )


class ArchiveUnsafe(FetchError):
    """An archive of which a file would be written elsewhere, or would lead elsewhere."""

    kind: ClassVar[FailureKind] = "user_error"

    def __init__(self, address: str, member: str, reason: str) -> None:
        super().__init__(
            address,
            f"its member {member[:200]!r} {reason}, so that nothing of it is unpacked",
            "pack ordinary files and folders alone, such as by tar --dereference from within the folder",
        )
