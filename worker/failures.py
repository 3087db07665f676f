"""What an exception in the training process means for the trial."""

import re
import traceback

from trimtab.contract.leases import Failed
from trimtab.contract.trials import FailureKind

RETRYABLE: frozenset[FailureKind] = frozenset(
    {"data_missing", "crashed", "checkpoint_corrupt", "infrastructure"}
)
"""Another worker, or another try, may fare better."""
TAIL = 2048
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_ADVICE = "a smaller batch_size or image_size, or more frozen_stages, may fit"


def failure_of(error: Exception) -> Failed:
    """Name the failure: by the error's own `kind` where it has one, else by what it is."""
    kind = _kind_of(error)
    return Failed(error=kind, message=_message(kind, error), retryable=kind in RETRYABLE)


def _kind_of(error: Exception) -> FailureKind:
    kind: FailureKind | None = getattr(error, "kind", None)
    if kind is not None:
        return kind
    if isinstance(error, MemoryError):
        return "oom"
    if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
        # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU's allocator and the libraries raise.
        return "oom"
    return "infrastructure" if isinstance(error, OSError) else "crashed"


def _message(kind: FailureKind, error: Exception) -> str:
    line = "".join(traceback.format_exception_only(error)).strip()
    match kind:
        case "oom":
            return f"{line}; {_ADVICE}"
        case "crashed" | "infrastructure":
            return f"{line}\n{''.join(traceback.format_exception(error))[-TAIL:]}"
        case _:
            return str(error)
