"""What an exception in a person's training loop makes of its trial."""

import traceback

from trimtab.contract.leases import Failed
from trimtab.contract.trials import FailureKind

TAIL = 2048
"""The most characters of a traceback that are sent; its end names the error."""

OUT_OF_MEMORY = frozenset({"OutOfMemoryError", "ResourceExhaustedError"})
"""Exceptions of libraries that say so; told by their names, since this process may have imported none of them."""


def failure_of(error: Exception) -> Failed:
    """Return the failure: the sampler learns from a want of memory, since the configuration causes it, and from no other."""
    line = "".join(traceback.format_exception_only(error)).strip()
    tail = "".join(traceback.format_exception(error))[-TAIL:]
    return Failed(error=_kind(error), message=f"{line}\n{tail}")


def _kind(error: Exception) -> FailureKind:
    lacks_memory = isinstance(error, MemoryError) or type(error).__name__ in OUT_OF_MEMORY
    return "oom" if lacks_memory else "crashed"
