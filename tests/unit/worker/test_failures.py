import pytest

from trimtab.contract.trials import FailureKind
from worker.runner.failures import TAIL, failure_of


class Named(Exception):
    kind: FailureKind = "diverged"


class Missing(Exception):
    kind: FailureKind = "data_missing"


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (Named("the loss is not finite"), "diverged", False),
        (Missing("/data: no such folder"), "data_missing", True),
        (MemoryError(), "oom", False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "oom", False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom", False),
        (RuntimeError("device-side assert triggered"), "crashed", True),
        (OSError(28, "No space left on device"), "infrastructure", True),
        (ValueError("who knows"), "crashed", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_exception_is_a_kind_of_failure(
    error: Exception, kind: FailureKind, retryable: bool
) -> None:
    failed = failure_of(error)
    assert failed.error == kind
    assert failed.retryable == retryable


def test_a_foreseen_failure_says_what_it_says() -> None:
    assert failure_of(Missing("/data: no such folder")).message == "/data: no such folder"


def test_an_unforeseen_failure_brings_the_end_of_its_traceback() -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("at the bottom")

    with pytest.raises(ValueError, match="bottom") as raised:
        deep(200)
    message = failure_of(raised.value).message
    assert message.startswith("ValueError: at the bottom")
    assert "in deep" in message
    assert len(message) < TAIL + 100


def test_a_loss_of_memory_names_what_would_need_less() -> None:
    assert "batch_size" in failure_of(MemoryError("64 GiB")).message
