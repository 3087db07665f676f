"""One seed for everything random: what happens under `seeded` depends on its seed alone and disturbs nobody."""

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


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


def generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the generators that a training on `device` draws from, by name."""
    states = {"cpu": torch.random.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Let the generators draw what would have come after `generators`; inside `seeded`."""
    if "cpu" in states:
        torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
