"""What an exception in the training process means for the trial."""

import traceback

from trimtab.contract.leases import Failed
from trimtab.contract.trials import FailureKind
from worker.training.errors import is_out_of_memory

RETRYABLE: frozenset[FailureKind] = frozenset(
    {"data_missing", "crashed", "checkpoint_corrupt", "infrastructure"}
)
"""Another worker, or another try, may fare better."""
TAIL = 2048
_ADVICE = "a smaller batch_size or image_size, or more frozen_stages, may fit"


def failure_of(error: Exception) -> Failed:
    """Name the failure: by the error's own `kind` where it has one, else by what it is."""
    kind = _kind_of(error)
    return Failed(error=kind, message=_message(kind, error), retryable=kind in RETRYABLE)


def _kind_of(error: Exception) -> FailureKind:
    kind: FailureKind | None = getattr(error, "kind", None)
    if kind is not None:
        return kind
    if is_out_of_memory(error):
        return "oom"
    return "infrastructure" if isinstance(error, OSError) else "crashed"


def _message(kind: FailureKind, error: Exception) -> str:
    channel = "".join(traceback.format_exception_only(error)).strip()
    match kind:
        case "oom":
            return f"{channel}; {_ADVICE}"
        case "crashed" | "infrastructure":
            return f"{channel}\n{''.join(traceback.format_exception(error))[-TAIL:]}"
        case _:
            return str(error)
