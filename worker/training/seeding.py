"""One seed for everything random: what happens under `seeded` depends on its seed alone and disturbs nobody."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a seed for one purpose, unrelated to those of other purposes."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Generator[None]:
    """Seed torch's generators inside, and put the caller's back afterwards.

    Not by `torch.manual_seed`: where CUDA sleeps it notes every call, with its stack, for when that wakes.
    """
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield
