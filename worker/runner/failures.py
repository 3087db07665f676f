"""Turns an exception of the training process into the trial's failure."""

import traceback

from trimtab.contract.leases import Failed
from trimtab.contract.trials import FailureKind
from worker.training.device.rank_errors import kind_of

RETRYABLE: frozenset[FailureKind] = frozenset(
    {"data_missing", "crashed", "checkpoint_corrupt", "infrastructure"}
)
"""Failures after which another attempt, here or on another worker, may succeed."""
TAIL = 2048
"""The most characters of a traceback that are sent; its end names the error."""
_ADVICE = "a smaller batch_size or image_size, or more frozen_stages, may fit"


def failure_of(error: Exception) -> Failed:
    """Return the failure that an error means (`errors.kind_of`)."""
    kind = kind_of(error)
    return Failed(error=kind, message=_message(kind, error), retryable=kind in RETRYABLE)


def _message(kind: FailureKind, error: Exception) -> str:
    line = "".join(traceback.format_exception_only(error)).strip()
    match kind:
        case "oom":
            return f"{line}; {_ADVICE}"
        # Not a fault of the study's author: the traceback is for whoever mends the code or the machine.
        case "crashed" | "infrastructure":
            return f"{line}\n{''.join(traceback.format_exception(error))[-TAIL:]}"
        case _:
            return str(error)
